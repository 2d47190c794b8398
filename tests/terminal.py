"""Programs on a terminal, as a person sees them."""

import os
import pty
import subprocess
import sys


def written(*arguments: str, until: str = '', signum: int = 0, **environment: str) -> tuple[int, str]:
    """(the exit code, all that was written) of Python with these arguments on a terminal of 100 columns.

    It gets the signal `signum` once it has written `until`.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {'TERM': 'xterm', 'COLUMNS': '100', 'LINES': '40'} | environment,
    )
    os.close(theirs)
    seen = b''
    while more := read(ours):
        seen += more
        if signum and until in seen.decode(errors='replace'):
            process.send_signal(signum)
            signum = 0
    os.close(ours)
    return process.wait(), seen.decode()


def read(terminal: int) -> bytes:
    """What was written since; nothing once the process has closed the terminal, an error on Linux."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b''
