"""stdout and stderr that work without a reader, and can write any text."""

import codecs
import errno
import io
import os
import sys
from typing import Any

# A pipe whose reader has ended, as after `| head`; a terminal that was closed.
NO_READER = (errno.EPIPE, errno.EIO)
# The name of `escaped` as an error handler.
ESCAPED = 'flaxnets.escaped'


class _Kept(io.FileIO):
    """A file descriptor; what is written after the reader has ended is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in NO_READER:
                raise
            return memoryview(data).nbytes


def escaped(error: UnicodeError) -> tuple[str, int]:
    r"""An error handler for `codecs`: what an encoding lacks becomes an escape, a byte of a file's name that
    is no UTF-8 that byte, such as \xe9."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].encode('ascii', 'backslashreplace').decode()
    return text.replace(r'\udc', r'\x'), error.end


codecs.register_error(ESCAPED, escaped)


def keep() -> None:
    """Makes the process's stdout and stderr drop text without a reader, and write characters that their
    encoding lacks as escapes."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: `>&-`
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, 'w'), 'utf-8', ESCAPED))
        elif stream is getattr(sys, f'__{name}__'):  # not what a notebook or a test has put there
            stream.flush()
            lines = stream.line_buffering
            raw: Any = _Kept(stream.fileno(), 'w', closefd=False)
            kept = io.TextIOWrapper(
                # As Python does it: with PYTHONUNBUFFERED nothing waits in a buffer.
                raw if stream.write_through else io.BufferedWriter(raw),
                stream.encoding,
                ESCAPED,
                line_buffering=lines,
                write_through=stream.write_through,
            )
            setattr(sys, name, kept)
