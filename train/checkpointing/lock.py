"""One run a workdir: a lock that the system lets go of when the process ends, however it ends."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import IO

from flaxnets.errors import UserError

NAME = '.lock'


class Lock:
    """A lock that is held on a workdir."""

    def __init__(self, path: pathlib.Path, file: IO[str] | None):
        self.path, self.file = path, file

    def check(self) -> None:
        """Raises `UserError` if the workdir has been removed or replaced since it was locked."""
        if self.file is None:
            return
        try:
            there = os.path.samestat(self.path.stat(), os.fstat(self.file.fileno()))
        except OSError:
            there = False
        if not there:
            raise UserError(
                f'{self.path.parent}: the workdir vanished or was replaced while the run was writing to it; '
                'put it back and run the same command again, or choose another --workdir'
            )


@contextlib.contextmanager
def hold(workdir: pathlib.Path, *, first: bool = True) -> Iterator[Lock]:
    """Creates `workdir` and holds its lock; a `UserError` names the process that has it already.

    Of several processes that train together only the first holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / NAME
    if not first:
        yield Lock(path, None)
        return
    # The file stays: removing it would let two processes lock two different files of one name.
    with path.open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(100).strip() or 'unknown'
            raise UserError(
                f'{workdir} is in use by another run (process {holder}); wait for it, stop it, '
                'or choose another --workdir'
            ) from None
        file.truncate(0)
        file.write(f'{os.getpid()}\n')
        file.flush()
        yield Lock(path, file)
