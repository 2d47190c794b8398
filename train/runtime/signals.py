"""SIGTERM, SIGHUP, Ctrl-C: the current step ends, the state is saved, the program says how to continue."""

import contextlib
import math
import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

# Seconds that a signal waits for a compilation, which Python cannot interrupt, if there is nothing to save.
PATIENCE = 8.0
AT_ONCE = 'stopped at once'
# A terminal that closes sends SIGHUP.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A signal has ended the run; the state is saved. Not an `Exception`, so that no handler catches it."""

    def __init__(self, signum: int, where: str = ''):
        super().__init__(f'{signal.Signals(signum).name}{where}')
        self.signum = signum
        self.where = where


class Stop:
    """The first signal that came, in `signum`; 0 before.

    The loop looks at it between chunks of steps. In `interruptible` blocks, which change nothing that must
    be saved (start-up, evaluation), the signal raises `Stopped` at once. While something is `unsaved`, the
    process is not ended from outside, however long such a block takes. What the user must know at once goes
    to `say`, which another thread calls.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.raises = True
        self.unsaved = False
        self.seen = threading.Event()
        self.say: Callable[[str], None] = _say

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
    def interruptible(self, value: bool = True, *, unsaved: bool = False) -> Iterator[None]:
        """Inside the block signals raise `Stopped` at once; with False they only set `signum`."""
        before, (self.raises, self.unsaved) = (self.raises, self.unsaved), (value, unsaved)
        try:
            if value and self.signum:
                self.seen.set()
                raise Stopped(self.signum)
            yield
        finally:
            self.raises, self.unsaved = before

    def swallowed(self) -> None:
        """Notes that `Stopped` was raised where Python ignores exceptions, as in a destructor.

        The next `interruptible` block raises it again; until then the watching thread may end the process.
        """
        self.seen.clear()


@contextlib.contextmanager
def signals(*, own_process: bool = False) -> Iterator[Stop]:
    """Inside the block a `Stop` handles SIGTERM, SIGINT and, unless `nohup` ignores it, SIGHUP. Python sends
    signals to the main thread only: in other threads it never gets one.

    With `own_process` (the command line, not a notebook) a second Ctrl-C ends the process at once, and so
    does a signal that cannot be handled because of a long compilation.
    """
    stop = Stop()
    if not _in_main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in _ours()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_where_ignored(Stopped, stop.swallowed))
        if own_process:
            stack.enter_context(_watched(stop))
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _in_main_thread() -> bool:
    """Whether this thread may set signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _ours() -> list[signal.Signals]:
    """The signals to handle. One that ignores SIGHUP was started by `nohup`."""
    return [n for n in HANDLED if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


@contextlib.contextmanager
def _where_ignored(kind: type[BaseException], do: Callable[[], None]) -> Iterator[None]:
    """Python prints a traceback of an exception that it must ignore, in a destructor or a callback of the
    garbage collector; instead of one of this `kind`, it does what `do` does."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, kind):
            do()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _watched(stop: Stop) -> Iterator[None]:
    """A thread that notices signals also while the main thread is inside XLA."""
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
            if stop.raises and not stop.unsaved and not stop.seen.is_set():
                end_process(signum, 'stopped inside a long computation; nothing was unsaved')
            continue
        if not (byte := os.read(read_end, 1)):
            return
        if byte[0] in HANDLED:
            signum, deadline = byte[0], time.monotonic() + PATIENCE
            interrupts += signum == signal.SIGINT
            if interrupts > 1:
                end_process(signum, 'stopped at once: the steps since the last checkpoint are lost')
            if not stop.raises:
                stop.say('finishing the step and saving; Ctrl-C again stops at once')


@contextlib.contextmanager
def interruptions() -> Iterator[None]:
    """Inside the block Ctrl-C raises KeyboardInterrupt, unless something else handles it.

    Where that would be printed and forgotten, or cannot pass, it ends the process at once: in destructors and
    callbacks of the garbage collector, and in imports, where extension modules crash.
    """

    def handle(signum: int, frame: FrameType | None) -> NoReturn:
        while frame is not None:
            if frame.f_code.co_filename.startswith('<frozen importlib'):
                end_process(signum, AT_ONCE)
            frame = frame.f_back
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before not in (signal.default_int_handler, signal.SIG_DFL) or not _in_main_thread():
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        with _where_ignored(KeyboardInterrupt, lambda: end_process(signal.SIGINT, AT_ONCE)):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def before_start() -> None:
    """Lets signals end the process at once and without a traceback, while the program is still imported."""
    for number in _ours():
        signal.signal(number, lambda n, _: end_process(n, f'stopped by {signal.Signals(n).name}'))


def command() -> str:
    """The command that started this process, as it was typed, interpreter included."""
    return shlex.join(sys.orig_argv)


def end_process(signum: int, why: str) -> NoReturn:
    """Ends the process without running anything else; the system releases the lock."""
    # The progress bar hides the cursor.
    cursor = '\x1b[?25h' if sys.stderr is not None and sys.stderr.isatty() else ''
    _say(f'{cursor}\n{why}\nTo continue: {command()}')
    os._exit(128 + signum)


def leave(code: int) -> NoReturn:
    """Ends the process with its exit code, without Python's own shutdown: that crashes inside JAX after
    an exception has passed through its compiler, and the exit code would be wrong."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _say(text: str) -> None:
    """Writes to stderr from any thread, also if nothing reads it."""
    with contextlib.suppress(OSError):
        os.write(2, f'{text}\n'.encode(errors='backslashreplace'))
