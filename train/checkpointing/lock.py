"""One run in a workdir: a lock, which the system releases when the process ends in any way."""

import fcntl
import os
import pathlib

import filelock

from flaxnets.errors import UserError

NAME = '.lock'
# Seconds that a run waits for the lock, which `in_use` acquires for a moment.
PATIENCE = 1.0


def in_use(workdir: pathlib.Path) -> bool:
    """Whether a run is writing to `workdir` now.

    It acquires a shared lock, which several processes may have at a time, and releases it at once; a run that
    starts at this moment waits for it.
    """
    try:
        with (workdir / NAME).open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, or none that this user may read
        pass
    return False


class WorkdirLock:
    """Creates `workdir` and acquires its lock, until the `with` block ends.

    Of several processes that train together only the `first` acquires it.

    Raises:
        UserError: another process has acquired it, which the message names.
    """

    def __init__(self, workdir: pathlib.Path, *, first: bool = True):
        workdir.mkdir(parents=True, exist_ok=True)
        self.path = workdir / NAME
        self.lock = filelock.FileLock(self.path, timeout=PATIENCE) if first else None

    def __enter__(self) -> 'WorkdirLock':
        if self.lock is None:
            return self
        try:
            self.lock.acquire()
        except filelock.Timeout:
            owner = self.path.read_text()[:100].strip() or 'unknown'
            raise UserError(
                f'{self.path.parent} is in use by another run (process {owner}); wait for it, stop it, '
                'or choose another --workdir'
            ) from None
        self.path.write_text(f'{os.getpid()}\n')
        self.locked = self.path.stat()
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock is not None:
            self.lock.release()  # the file stays, or two processes could lock two files of one name

    def check(self) -> None:
        """Raises `UserError` if the workdir has been removed or replaced since it was locked."""
        if self.lock is None:
            return
        try:
            same = os.path.samestat(self.path.stat(), self.locked)
        except OSError:
            same = False
        if not same:
            raise UserError(
                f'{self.path.parent}: the workdir was removed or replaced while the run was writing to it; '
                'put it back and run the same command again, or choose another --workdir'
            )
