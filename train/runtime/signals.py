"""SIGTERM and Ctrl-C: the step under way ends, the state is saved, and the program says how to continue."""

import contextlib
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# Seconds that a signal waits for a compilation, which no Python code can interrupt, when nothing is unsaved.
PATIENCE = 8.0


class Stopped(BaseException):
    """A signal has ended the run; nothing is lost. Not an `Exception`, so that no handler catches it."""

    def __init__(self, signum: int, where: str = ''):
        super().__init__(f'{signal.Signals(signum).name}{where}')
        self.signum = signum
        self.where = where


class Stop:
    """The first signal that came, in `signum`; 0 before.

    The loop looks at it between chunks of steps. In `interruptible` blocks, which change nothing that must
    be saved (start-up, evaluation), the signal raises `Stopped` at once.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.raises = True
        self.seen = threading.Event()

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler, which Python runs between two bytecodes of the main thread."""
        first, self.signum = not self.signum, self.signum or signum
        self.seen.set()
        if not first:
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            return
        if self.raises:
            raise Stopped(signum)

    @contextlib.contextmanager
    def interruptible(self, value: bool = True) -> Iterator[None]:
        """Inside the block signals raise `Stopped` at once; with False they only set `signum`."""
        before, self.raises = self.raises, value
        try:
            if value and self.signum:
                raise Stopped(self.signum)
            yield
        finally:
            self.raises = before


@contextlib.contextmanager
def signals(*, own_process: bool = False) -> Iterator[Stop]:
    """Inside the block a `Stop` handles SIGTERM and SIGINT; outside the main thread, which Python gives
    the signals to, it never gets one.

    With `own_process` (the command line, not a notebook) a second Ctrl-C ends the process at once, and so
    does a signal that cannot be handled because of a long compilation.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    with contextlib.ExitStack() as stack:
        if own_process:
            stack.enter_context(_watched(stop))
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _watched(stop: Stop) -> Iterator[None]:
    """A thread that is told of signals even while the main thread is inside XLA."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end)
    thread = threading.Thread(target=_watch, args=(read_end, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write_end)
        thread.join()
        os.close(read_end)


def _watch(read_end: int, stop: Stop) -> None:
    interrupts, signum, deadline = 0, 0, math.inf
    while True:
        timeout = None if deadline == math.inf else max(deadline - time.monotonic(), 0)
        if not select.select([read_end], [], [], timeout)[0]:
            deadline = math.inf
            if stop.raises and not stop.seen.is_set():
                end_process(signum, 'stopped inside a long computation; nothing was unsaved')
            continue
        if not (byte := os.read(read_end, 1)):
            return
        if byte[0] in (signal.SIGTERM, signal.SIGINT):
            signum, deadline = byte[0], time.monotonic() + PATIENCE
            interrupts += signum == signal.SIGINT
            if interrupts > 1:
                end_process(signum, 'stopped at once: the steps since the last checkpoint are lost')
            if not stop.raises:
                os.write(2, b'finishing the step and saving; Ctrl-C again stops at once\n')


def end_process(signum: int, why: str) -> None:
    """Ends the process without running anything else; the system releases the lock."""
    # The progress bar hides the cursor.
    cursor = '\x1b[?25h' if sys.stderr.isatty() else ''
    os.write(2, f'{cursor}\n{why}\n'.encode())
    os._exit(128 + signum)
