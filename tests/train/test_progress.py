"""Long work says how far it is, quick work nothing: on a (pseudo-)terminal, and in a pipe."""

import io
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from train import progress

WORK = """
import time
from train import progress

with progress.shown() as shown:
    for item in shown.track(iter(range(4)), 'decoding [mine] train', 4):
        time.sleep({seconds} / 4)
print('done')
"""


def on_terminal(code, **environment):
    """What a process writes to a terminal."""
    ours, theirs = pty.openpty()
    env = os.environ | {'TERM': 'xterm', 'COLUMNS': '60', 'LINES': '20'} | environment
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    seen = b''
    while True:
        try:
            seen += (more := os.read(ours, 4096))
        except OSError:  # Linux says so when the process has closed the terminal
            more = b''
        if not more:
            break
    os.close(ours)
    assert process.wait() == 0
    return seen.decode()


def test_a_terminal_shows_long_work_and_takes_it_away():
    written = on_terminal(WORK.format(seconds=1.8))
    assert re.search(r'decoding \[mine\] train.*[23]/4.* left', written)
    assert written.index('\x1b[?25l') < written.index('\x1b[?25h'), 'the cursor is shown again'
    assert written.endswith('done\r\n')
    assert written.count('\x1b[2K') >= 2, 'the line is erased'


@pytest.mark.parametrize(('seconds', 'term'), [(0.02, 'xterm'), (1.4, 'dumb')])
def test_quick_work_and_a_dumb_terminal_show_nothing(seconds, term):
    assert on_terminal(WORK.format(seconds=seconds), TERM=term) == 'done\r\n'


def test_a_pipe_gets_lines_on_stderr_after_some_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    with progress.shown() as shown:
        for _ in shown.track(iter(range(40)), 'decoding mine train', 40):
            now[0] += 1.0
        shown('reading mine')
    out, err = capsys.readouterr()
    assert out == ''
    assert err.splitlines() == [
        'decoding mine train  5/40  35 s left',
        'decoding mine train  20/40  20 s left',
        'decoding mine train  35/40  5 s left',
    ]


@pytest.mark.parametrize('width', [1, 20, 40, 80])
def test_a_line_fits_any_window(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    console.print(
        progress.lines(console, 'decoding cifar10 train', ['12,000/50,000', '3 min 4 s left'], 12, 50)
    )
    shown = re.sub(r'\x1b\[[\d;]*m', '', console.file.getvalue())
    assert max(map(len, shown.splitlines())) <= width
    assert width < 20 or '12,000/50,000' in shown
