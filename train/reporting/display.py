"""What a terminal shows while a run trains: a few lines below all others, redrawn four times a second."""

import time
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live

from train.progress import duration, lines


class Display:
    """Epoch, step and time left with a bar; under it the `parts` and the stage under way.

    Attributes:
        done: steps made, of `total`.
        left: seconds that the rest will take; None while that is not known.
        parts: texts such as 'loss 0.1234', side by side as far as the window is wide.
        best: the best epoch so far, in words.
    """

    def __init__(self, console: Console, done: int, total: int, epochs: int):
        self.console, self.done, self.total, self.epochs = console, done, total, epochs
        self.left: float | None = None
        self.parts: list[str] = []
        self.best = ''
        self.stage('')
        self.live = Live(get_renderable=self.draw, console=console, transient=True)

    def start(self) -> None:
        """Shows it; what is printed appears above."""
        self.live.start(refresh=True)

    def stop(self) -> None:
        """Takes it away."""
        self.live.stop()

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """What is being done apart from training, and how far it is; '' for nothing."""
        if not done or not name:
            self.since = time.monotonic()
        self._stage = f'{name} {done:,}/{total:,}' if total else name

    def track(self, items: Iterator, name: str, total: int) -> Iterator:
        """The items in turn, as a stage."""
        try:
            for done, item in enumerate(items):
                self.stage(name, done, total)
                yield item
        finally:
            self.stage('')

    def draw(self) -> Group:
        """All lines, as they are now."""
        epoch = min(self.done // max(self.total // self.epochs, 1) + 1, self.epochs)
        tails = [f'step {self.done:,}/{self.total:,}']
        if self.left is not None:
            tails.append(f'{duration(self.left)} left')
        parts = [*self.parts, self.best, self._stage_line()]
        return lines(self.console, f'epoch {epoch}/{self.epochs}', tails, self.done, self.total, parts)

    def _stage_line(self) -> str:
        seconds = int(time.monotonic() - self.since)
        return f'{self._stage}, {seconds} s' if self._stage and seconds else self._stage
