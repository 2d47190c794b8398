"""What a terminal shows while a run trains: a few lines below all others, drawn anew four times a second."""

import textwrap
import time
from collections.abc import Iterator

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

# Columns. Lines that are no longer stay whole when a wide window is made narrower.
WIDTH = 78
UNBROKEN = '\xa0'  # a space at which no line is broken


def duration(seconds: float) -> str:
    """Such as 12 s, 3 min 20 s or 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    if seconds < 3600:
        return f'{seconds // 60} min {seconds % 60} s'
    return f'{seconds // 3600} h {seconds % 3600 // 60} min'


class Display:
    """Epoch, step and time left with a bar; under it the `parts` and the stage under way.

    Attributes:
        done: steps made, of `total`.
        left: seconds that the rest will take; None while that is not known.
        parts: texts such as 'loss 0.1234', one beside the other as far as the window is wide.
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
        """What is being done beside training, and how far it is; '' for nothing."""
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
        width = max(min(WIDTH, self.console.width - 1), 1)
        steps_per_epoch = max(self.total // self.epochs, 1)
        epoch = min(self.done // steps_per_epoch + 1, self.epochs)
        head = Text(f'epoch {epoch}/{self.epochs}', style='bold', no_wrap=True)
        bar = ProgressBar(total=self.total, completed=self.done)
        left = '' if self.left is None else f'  {duration(self.left)} left'
        tail = Text(f'step {self.done:,}/{self.total:,}{left}', no_wrap=True)
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column()
        line.add_column(ratio=1)
        line.add_column()
        line.add_row(head, bar, tail)
        parts = [*self.parts, self.best, self._stage_line()]
        text = '  '.join(part.replace(' ', UNBROKEN) for part in parts if part)
        wrapped = '\n'.join(textwrap.wrap(text, width, break_on_hyphens=False)).replace(UNBROKEN, ' ')
        return Group(Constrain(line, width), Text(wrapped, no_wrap=True))

    def _stage_line(self) -> str:
        seconds = int(time.monotonic() - self.since)
        return f'{self._stage}, {seconds} s' if self._stage and seconds else self._stage
