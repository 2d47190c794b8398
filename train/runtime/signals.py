"""SIGTERM and Ctrl-C: the step is finished, its state saved, and the program says how to go on."""

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

# How long a compilation, which no Python code can interrupt, may hold up a run that has nothing to save.
PATIENCE = 8.0


class Stopped(BaseException):
    """A run that a signal ended in good order. Not an `Exception`: nothing should swallow it."""

    def __init__(self, signum: int, where: str = ''):
        super().__init__(f'{signal.Signals(signum).name}{where}')
        self.signum = signum
        self.where = where


class Stop:
    """What the signals so far ask of a run.

    The loop reads `signum` between steps. In `interruptible` stretches, which change nothing that would
    be lost (start-up, evaluation), the signal raises `Stopped` where it finds the program.
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
        """Signals raise `Stopped` at once inside; with False they only set `signum`."""
        before, self.raises = self.raises, value
        try:
            if value and self.signum:
                raise Stopped(self.signum)
            yield
        finally:
            self.raises = before


@contextlib.contextmanager
def signals(*, own_process: bool = False) -> Iterator[Stop]:
    """Sends SIGTERM and SIGINT to a `Stop` for a while; only the main thread of a process can.

    With `own_process` (the command line, not a notebook) a second Ctrl-C ends the process on the spot,
    and so does a signal that a long compilation keeps from being handled.
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
    """A thread that hears of signals even while the main one is deep inside XLA."""
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
    """Ends the process without running anything else; the system frees the lock."""
    # The progress bar hides the cursor.
    cursor = '\x1b[?25h' if sys.stderr.isatty() else ''
    os.write(2, f'{cursor}\n{why}\n'.encode())
    os._exit(128 + signum)
