"""Long work says how far it is, quick work nothing: on a (pseudo-)terminal, and in a pipe."""

import io
import re
from types import SimpleNamespace

import pytest
import terminal
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


def test_a_terminal_shows_long_work_and_takes_it_away():
    _, written = terminal.written('-c', WORK.format(seconds=1.8))
    assert re.search(r'decoding \[mine\] train.*[23]/4.* left', written)
    assert written.index('\x1b[?25l') < written.index('\x1b[?25h'), 'the cursor is shown again'
    assert written.endswith('done\r\n')
    assert written.count('\x1b[2K') >= 2, 'the line is erased'


@pytest.mark.parametrize(('seconds', 'term'), [(0.02, 'xterm'), (1.4, 'dumb')])
def test_quick_work_and_a_dumb_terminal_show_nothing(seconds, term):
    assert terminal.written('-c', WORK.format(seconds=seconds), TERM=term) == (0, 'done\r\n')


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
