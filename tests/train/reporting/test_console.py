"""What a run shows while it runs: the display of a terminal, the lines of a pipe, the first step's time."""

import io
import json
from types import SimpleNamespace
from typing import Any

import jax
import pytest
import runs
from rich.cells import cell_len
from rich.console import Console

from train import progress
from train.metrics import EpochSums
from train.pace import Pace
from train.reporting import console, display
from train.reporting.console import Reporter
from train.runtime import first_step

DEVICES: Any = SimpleNamespace(peak_memory=lambda: 512_000_000, describe=lambda: '1 x cpu')


def terminal(width=80, **options):
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=24, soft_wrap=True, **options)


def drawn(shown):
    """The lines that a display shows, without colours."""
    out = Console(file=io.StringIO(), width=shown.console.width)
    out.print(shown.draw())
    return out.file.getvalue().splitlines()


def some(width=80):
    shown = display.Display(terminal(width), 1234, 7820, 10)
    shown.left, shown.best = 200.0, 'best 70.12% in epoch 1'
    shown.parts = ['loss 1.2345', 'accuracy 54.21%', '12,345 images/s', 'memory 512 MB']
    return shown


def sums():
    return EpochSums(loss=2.0, correct=32.0, images=64.0, steps=1, last_loss=2.0, seconds=0.5)


def row(epoch, accuracy, step=10):
    scores = {'test_accuracy': accuracy, 'test_loss': 1.0, 'train_loss': 1.0}
    return {'epoch': epoch, 'step': step, 'images_per_second': 100.0, 'seconds': 1.0} | scores


def reporter(tmp_path, out, **changes):
    config = runs.digits(tmp_path, **changes)
    made = Reporter(tmp_path, config, console=out)
    made.start([], 0, 20, DEVICES)
    return made


@pytest.mark.parametrize('width', [40, 60, 80, 200])
def test_the_display_fits_and_shows_all(width):
    shown = some(width)
    shown.stage('evaluating test', 12, 40)
    lines = drawn(shown)
    assert max(map(len, lines)) <= min(width, progress.WIDTH)
    assert len(lines) <= (4 if width >= 60 else 6)
    text = '\n'.join(lines)
    for part in (
        *shown.parts,
        shown.best,
        'epoch 2/10',
        '1,234/7,820',
        '3 min 20 s left',
        'evaluating test 12/40',
    ):
        assert part in text


@pytest.mark.parametrize('width', [1, 10, 30])
def test_a_very_narrow_window_is_no_error(width):
    assert drawn(some(width))


def test_no_color(monkeypatch):
    monkeypatch.setenv('NO_COLOR', '1')
    out = terminal()
    out.print(some().draw())
    assert '\x1b[3' not in out.file.getvalue()


def test_a_terminal_shows_a_display_and_marks_the_best_epoch(tmp_path):
    out = terminal()
    made = reporter(tmp_path, out)
    try:
        assert 'compiling' in ''.join(drawn(made.display))
        made.steps(1, sums(), 10.0, rate=0.1)
        made.steps(2, sums(), 10.0, rate=0.1)
        text = '\n'.join(drawn(made.display))
        for part in ('epoch 1/2', 'loss 2.0000', 'accuracy 50.00%', '640 images/s', 'memory 512 MB', ' left'):
            assert part in text
        assert 'compiling' not in text
        made.epoch(row(1, 70.0), 2)
        made.epoch(row(2, 60.0, 20), 2)
        assert 'best 70.00% in epoch 1' in '\n'.join(drawn(made.display))
    finally:
        made.close()
    written = out.file.getvalue()
    assert '\x1b[?25h' in written, 'the cursor is shown again'
    lines = [line for line in written.splitlines() if 'train loss' in line]
    assert [line.endswith('best') for line in lines] == [True, False]


def test_time_left_is_not_said_where_it_is_not_known(tmp_path):
    out = Console(file=io.StringIO(), soft_wrap=True, highlight=False)
    made = reporter(tmp_path, out)
    made.epoch(row(1, 70.0, 0), 2)  # resumed at the end of an epoch: no step was made yet
    made.close()
    assert 'left' not in out.file.getvalue().splitlines()[-1]


def test_evaluating_shows_its_batches(tmp_path):
    made = reporter(tmp_path, terminal())
    try:
        seen = ['\n'.join(drawn(made.display)) for _ in made.track(iter('ab'), 'evaluating test', 2)]
        assert 'evaluating test 1/2' in seen[1]
        assert 'evaluating' not in '\n'.join(drawn(made.display))
    finally:
        made.close()


@pytest.mark.parametrize('dumb', [True, False])
def test_a_pipe_and_a_dumb_terminal_get_plain_lines(tmp_path, monkeypatch, dumb):
    monkeypatch.setenv('TERM', 'dumb' if dumb else 'xterm')
    out = Console(file=io.StringIO(), force_terminal=dumb, soft_wrap=True, highlight=False)
    made = reporter(tmp_path, out)
    made.steps(1, sums(), 10.0, rate=0.1)
    list(made.track(iter('ab'), 'evaluating test', 2))
    made.epoch(row(1, 70.0), 2)
    made.close()
    written = out.file.getvalue()
    assert made.display is None
    assert '\x1b' not in written
    first, second = written.splitlines()
    assert first.startswith('compiling')
    assert second.startswith('epoch 1/2  train loss 1.0000')
    assert second.endswith('  best')


def test_a_pipe_gets_a_line_now_and_then_while_an_epoch_is_long(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr('train.progress.time.monotonic', lambda: now[0])
    out = Console(file=io.StringIO(), soft_wrap=True, highlight=False)
    made = reporter(tmp_path, out)
    for done in range(1, 8):
        now[0] += console.SILENCE / 3
        made.steps(done, sums(), 10.0, rate=0.1)
    made.epoch(row(1, 70.0), 2)
    for _ in made.track(iter('abcd'), 'evaluating test', 4):
        now[0] += console.SILENCE / 2
    made.close()
    begins = [line.split('  ')[0] for line in out.file.getvalue().splitlines()]
    assert begins[1:] == ['step 3/20', 'step 6/20', 'epoch 1/2', 'evaluating test 2/4']


@pytest.mark.parametrize('encoding', ['ascii', 'utf-8'])
def test_the_columns_of_a_confusion_matrix_stand_below_each_other(encoding):
    """Whatever the names are: escapes, double width, what rich takes for markup."""
    names = ('cat', 'caf\xe9', '\u4e2d\u6587', '[/b]', 'a name of many words')
    scores = {'loss': 1.0, 'accuracy': 20.0, 'macro_f1': 20.0, 'class_accuracy': [None, 1.0, 0.5, 0.5, 0.5]}
    scores['confusion'] = [[1000 * i + j for j in range(5)] for i in range(5)]
    buffer = io.BytesIO()
    out = console.terminal()
    out.file = io.TextIOWrapper(buffer, encoding)
    console.show_scores(out, scores, names, 'test')
    out.file.flush()
    lines = buffer.getvalue().decode(encoding).splitlines()
    names = [name.encode(encoding, 'backslashreplace').decode(encoding) for name in names]
    for line, name in zip(lines[1:6], names, strict=True):
        assert line.startswith(f'  {name} ')
    assert len({cell_len(line) for line in lines[-6:]}) == 1, lines
    assert [line.split()[-1] for line in lines[-5:]] == ['4', '1004', '2004', '3004', '4004']


def test_colours_asked_for_in_a_pipe_are_no_display(monkeypatch, capsys):
    monkeypatch.setenv('FORCE_COLOR', '1')
    assert not console.terminal().is_interactive


def test_the_time_of_the_first_compilation_is_remembered(tmp_path, monkeypatch):
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    try:
        first = first_step.FirstStep('mine')
        assert first.remembered is None
        jax.monitoring.record_event(first_step.COMPILED)
        first.ended()
        again = first_step.FirstStep('mine')
        seconds = json.loads((tmp_path / first_step.FILE).read_text())['mine']
        assert again.remembered == seconds > 0
        again.ended()  # nothing was compiled: this is not how long it takes
        assert json.loads((tmp_path / first_step.FILE).read_text())['mine'] == seconds
        assert first_step.FirstStep('another').remembered is None
        (tmp_path / first_step.FILE).write_text('[]')
        assert first_step.FirstStep('mine').remembered is None
    finally:
        jax.config.update('jax_compilation_cache_dir', folder)


def test_a_known_compilation_is_announced_with_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(first_step, '_read', lambda: {console.program(runs.digits(tmp_path), DEVICES): 12.3})
    out = Console(file=io.StringIO())
    reporter(tmp_path, out).close()
    assert out.file.getvalue() == 'compiling, about 12 s the first time\n'


def test_the_pace_is_steady_though_chunks_overlap(monkeypatch):
    """Ten steps a second, but a lap takes the time of the chunk after it, as when starting one waits."""
    now = [0.0]
    monkeypatch.setattr('train.pace.time.monotonic', lambda: now[0])
    pace, step, chunks, unread = Pace(1000, fixed=False), 0, [], 0
    for _ in range(20):
        chunk = pace.next(step) - step
        now[0] += 0.1 * chunk + (6.0 if step == 0 else 0.0)
        if unread:
            pace.lap(unread)
        unread, step = chunk, step + chunk
        chunks.append(chunk)
    assert max(chunks) <= 20, f'{chunks}: no chunk should take longer than two seconds'
    assert all(7 <= chunk <= 14 for chunk in chunks[-6:]), chunks
    assert pace.steps_per_second == pytest.approx(10, rel=0.2)
