"""Progress of long work: a display on a terminal, plain lines elsewhere, nothing for quick work.

All of it goes to stderr, so that stdout has only results."""

import contextlib
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console, Group
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from train.terminal import terminal

Item = TypeVar('Item')
# Called with items, what is done with them and their number; returns the items, and counts them.
Track = Callable[[Iterator[Any], str, int], Iterator[Any]]
QUICK = 1.0  # seconds after which a terminal shows progress
FIRST, EVERY = 5.0, 15.0  # seconds until the first plain line, and from one to the next
# Columns. Lines that are no longer stay whole when a wide window is made narrower.
WIDTH = 78
SHORTEST_BAR = 8
UNBROKEN = '\xa0'  # a space at which no line is broken


def untracked(items: Iterator[Item], what: str, total: int) -> Iterator[Item]:
    """The items; nothing is shown."""
    return items


class Interval:
    """`due` is true once in `every` seconds, the first time after `first`."""

    def __init__(self, first: float, every: float):
        self.every, self.at = every, time.monotonic() + first

    def due(self) -> bool:
        """Whether the time has come; if it has, the next interval begins."""
        if time.monotonic() < self.at:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """The next interval begins now."""
        self.at = time.monotonic() + self.every


class Progress:
    """What is being done, and how far it is, for `shown` to show."""

    def __init__(self, console: Console):
        self.console = console
        self.interval = Interval(FIRST, EVERY)
        self.now: tuple[str, int, int, str] = ('', 0, 0, '')
        self.since, self.first = time.monotonic(), 0

    def __call__(self, what: str, done: int = 0, total: int = 0, unit: str = '') -> None:
        """`done` of `total` of `what` are done; a total of 0 is not known."""
        if what != self.now[0]:
            self.since, self.first = time.monotonic(), done
        self.now = (what, done, total, unit)
        if not self.console.is_interactive and self.interval.due():
            self.console.print('  '.join([what, *self._tails()]))

    def track(self, items: Iterator[Item], what: str, total: int) -> Iterator[Item]:
        """The items in turn, counted."""
        for done, item in enumerate(items):
            self(what, done, total)
            yield item

    def draw(self) -> Group:
        """The line as it is now."""
        what, done, total, _ = self.now
        return lines(self.console, what, self._tails(), done, total)

    def _tails(self) -> list[str]:
        """How far it is, and how long it has taken or will take."""
        _, done, total, unit = self.now
        seconds, made = time.monotonic() - self.since, done - self.first
        of = f'{done:,}/{total:,}' if total else f'{done:,}' if done else ''
        left = f'{duration(seconds / made * (total - done))} left' if made and total else ''
        taken = duration(seconds) if seconds >= 1 else ''
        return [text for text in (f'{of} {unit}'.strip() if of else '', left or taken) if text]


@contextlib.contextmanager
def shown() -> Iterator[Progress]:
    """What is told to the `Progress` is shown while the block runs."""
    progress = Progress(terminal(stderr=True))
    if not progress.console.is_interactive:
        yield progress
        return
    live = Live(
        get_renderable=progress.draw,
        console=progress.console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    start = threading.Timer(QUICK, live.start)
    start.daemon = True
    start.start()
    try:
        yield progress
    finally:
        start.cancel()
        start.join()
        live.stop()


def lines(
    console: Console, head: str, tails: Sequence[str], done: int, total: int, parts: Sequence[str] = ()
) -> Group:
    """`head`, a bar and `tails` in a line, and `parts` below, as many in a line as the window is wide.

    Without the bar where there is no room for it, or no total.
    """
    width = max(min(WIDTH, console.width - 1), 1)
    tail = '  '.join(tails)
    if not total or width - cell_len(head) - cell_len(tail) - 2 < SHORTEST_BAR:
        return Group(wrapped([head, *tails, *parts], width))
    line: Any = Table.grid(padding=(0, 1), expand=True)
    line.add_column()
    line.add_column(ratio=1)
    line.add_column()
    bar = ProgressBar(total=total, completed=done)
    line.add_row(Text(head, style='heading', no_wrap=True), bar, Text(tail, no_wrap=True))
    return Group(Constrain(line, width), *([wrapped(parts, width)] if parts else []))


def wrapped(parts: Sequence[str], width: int) -> Text:
    """The parts side by side, none of them broken where it fits into a line."""
    text = '  '.join(part.replace(' ', UNBROKEN) for part in parts if part)
    broken = '\n'.join(textwrap.wrap(text, width, break_on_hyphens=False))
    return Text(broken.replace(UNBROKEN, ' '), no_wrap=True)


def duration(seconds: float) -> str:
    """Such as 12 s, 3 min 20 s or 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    if seconds < 3600:
        return f'{seconds // 60} min {seconds % 60} s'
    return f'{seconds // 3600} h {seconds % 3600 // 60} min'
