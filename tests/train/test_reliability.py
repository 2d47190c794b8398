"""Whatever happens to the process, the same command ends with the same bits. `make soak` kills more often."""

import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import time

import crash_child
import jax
import numpy as np
import pytest
import runs
import xla_flags

import train
from train.checkpointing.checkpoints import Checkpoints, committed
from train.reporting import console
from train.reporting.tensorboard import PATTERN, read

ROOT = pathlib.Path(__file__).parents[2]
KILLS = int(os.environ.get('SOAK_KILLS', '3'))
SEED = int(os.environ.get('SOAK_SEED', '0'))
# Well over what a start takes on a busy machine.
PATIENCE = 500


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
    """For processes that see one CPU device and share compiled programs."""
    folder = tmp_path_factory.mktemp('shared')
    return os.environ | {
        'XLA_FLAGS': xla_flags.QUICKLY,
        'JAX_PLATFORMS': 'cpu',
        'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }


def start(arguments, environment):
    command = [sys.executable, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_for(process, condition, what):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f'ended before {what}: {process.communicate()}'
        assert time.monotonic() < until, f'{what} took too long'
        time.sleep(0.002)


def finish(process):
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output


def outcome(workdir):
    """(the last checkpoint's arrays, metrics.jsonl, summary), times apart."""
    untimed = lambda row: {k: v for k, v in row.items() if k not in console.VARYING_KEYS}  # noqa: E731
    rows = [untimed(json.loads(line)) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    summary = untimed(json.loads((workdir / 'summary.json').read_text()))
    checkpoints = Checkpoints(workdir, read_only=True)
    state = checkpoints.manager.restore(checkpoints.find('last'))['state']
    checkpoints.close()
    return state, json.dumps(rows), json.dumps(summary)


def saving(workdir):
    """Whether a save is under way."""
    return bool(list(workdir.glob('checkpoints/*.orbax-checkpoint-tmp')))


def assert_same(one, other):
    (state, *texts), (other_state, *other_texts) = outcome(one), outcome(other)
    assert texts == other_texts
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), state, other_state)


def test_killed_runs_end_with_the_same_bits(tmp_path, environment):
    """The first kill of each case falls into a save, the others anywhere, most of them after the start."""
    cases = list(crash_child.CASES)
    whole = {case: tmp_path / f'{case}-whole' for case in cases}
    finish(start(['tests/crash_child.py', *(f'{case}={whole[case]}' for case in cases)], environment))
    chance, took, moments = random.Random(SEED), {}, []
    rounds = dict.fromkeys(cases, 0)
    while len(moments) < KILLS:
        case = cases[len(moments) % len(cases)]
        workdir = tmp_path / f'{case}-{rounds[case]}'
        began = time.monotonic()
        child = start(['tests/crash_child.py', f'{case}={workdir}'], environment)
        if case not in took:
            second = lambda w=workdir: committed(w / 'checkpoints') and saving(w)  # noqa: E731
            wait_for(child, second, 'a second save')
            took[case] = time.monotonic() - began
        else:
            over = began + took[case] * chance.uniform(0.7, 1.6)
            while time.monotonic() < over and child.poll() is None:
                time.sleep(0.001)
        if child.poll() is None:
            child.kill()
            moments.append((workdir.name, committed(workdir / 'checkpoints')[-1:], saving(workdir)))
        else:  # it came to its end first: the machine is less busy now
            rounds[case] += 1
            took[case] *= 0.9
        child.communicate()
    print('killed: workdir, last checkpoint, in a save', *moments, sep='\n')
    assert sum(saved for *_, saved in moments) >= len(cases)
    killed = sorted({name for name, *_ in moments})
    again = [f'{name.rpartition("-")[0]}={tmp_path / name}' for name in killed]
    finish(start(['tests/crash_child.py', *again], environment))
    for name in killed:
        assert_same(tmp_path / name, whole[name.rpartition('-')[0]])


CONFIG = 'configs/branching_attn.py:digits'
SETTINGS = [
    *('--config.model.name=cnn', '--config.model.num_layers=1', '--config.model.width=4'),
    *('--config.data.image_size=(8,)', '--config.data.batch_size=8', '--config.epochs=4000'),
    *('--config.checkpoint.every=10000 steps', '--config.log.report=false'),
]


@pytest.fixture(scope='module')
def command(environment, tmp_path_factory):
    """Arguments of a run that ends long after these tests, in a workdir of its own."""
    folder = tmp_path_factory.mktemp('signals')
    cache = f'--config.data.cache_dir={folder / "cache"}'
    return ['-m', 'train', '--config', CONFIG, '--workdir', folder / 'run', *SETTINGS, cache]


def epochs(workdir):
    file = workdir / 'metrics.jsonl'
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_signals_save_and_say_how_to_continue(command, environment):
    workdir = command[command.index('--workdir') + 1]
    first = start(command, environment)
    wait_for(first, lambda: epochs(workdir) >= 1, 'the first epoch')
    refused = start(command, environment)
    _, errors = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 2
    assert errors.count('\n') == 1
    assert f'in use by another run (process {first.pid})' in errors

    sent = time.monotonic()
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=PATIENCE)
    assert time.monotonic() - sent < 10
    assert first.returncode == 143, errors
    saved = committed(workdir / 'checkpoints')[-1]
    assert f'saved at step {saved} of ' in errors
    assert 'Traceback' not in errors
    again = errors.splitlines()[-1].removeprefix(f'To continue: {sys.executable} ')
    done = epochs(workdir)

    second = start(shlex.split(again), environment)
    # The first of them may be the one whose evaluation the signal interrupted.
    wait_for(second, lambda: epochs(workdir) > done + 1, 'two more epochs')
    sent = time.monotonic()
    second.send_signal(signal.SIGINT)
    output, errors = second.communicate(timeout=PATIENCE)
    assert time.monotonic() - sent < 10
    assert second.returncode == 130, errors
    assert f'resumed at step {saved} of ' in output
    assert committed(workdir / 'checkpoints')[-1] > saved


def test_a_second_interrupt_stops_at_once(command, environment):
    workdir = command[command.index('--workdir') + 1]
    child = start(command, environment)
    done = epochs(workdir)
    wait_for(child, lambda: epochs(workdir) > done, 'another epoch')
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGINT)
    sent = time.monotonic()
    for _ in range(100):
        time.sleep(0.02)
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGINT)
    child.communicate(timeout=PATIENCE)
    assert child.returncode == 130
    assert time.monotonic() - sent < 5


LONG = """
import json, os, pathlib, sys, threading, gc
sys.path[:0] = ['tests', '.']
import runs, train
from train.checkpointing.checkpoints import Checkpoints
folder, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
config = runs.digits(folder, epochs=steps // 4, log__every=4, log__tensorboard=True)
config.checkpoint.every = '20 steps'
seen = {}
def measure(step):
    gc.collect()
    status = dict(line.split(':', 1) for line in open('/proc/self/status'))
    handles = len(os.listdir('/proc/self/fd'))
    files = [f for f in (folder / 'run').rglob('*') if f.is_file() and 'tfevents' not in f.name]
    size = sum(f.stat().st_size for f in files)
    seen[step] = [int(status['VmRSS'].split()[0]), handles, int(status['Threads']), size]
save = Checkpoints.save
def measured(self, state, step, *rest):
    save(self, state, step, *rest)
    if step % 200 == 0:
        self.wait()
        measure(step)
Checkpoints.save = measured
train.run(config, folder / 'run')
print(json.dumps(seen))
"""


def test_long_runs_do_not_grow(tmp_path, environment):
    """Memory, handles, threads and the workdir after 600 steps (soak: 2,000) against those after 200."""
    steps = int(os.environ.get('SOAK_STEPS', '600'))
    seen = json.loads(finish(start(['-c', LONG, tmp_path, steps], environment)).splitlines()[-1])
    print('step: KiB of memory, handles, threads, bytes of the workdir', *seen.items(), sep='\n')
    (memory, handles, threads, size), *_, (memory_end, handles_end, threads_end, size_end) = seen.values()
    assert memory_end <= 1.02 * memory
    assert handles_end <= handles
    # Pools start their threads as they are needed: a few come late, and no more after that.
    assert threads_end <= threads + 4
    # Two of the newest and the best; metrics.jsonl and the history in each grow by a row an epoch.
    assert size_end <= 4 * size


def test_a_workdir_is_bounded_however_often_it_resumes(tmp_path):
    for number in range(1, 5):
        config = runs.digits(tmp_path, epochs=number, log__tensorboard=True, log__every=2)
        train.run(config, tmp_path / 'run')
    files = list((tmp_path / 'run').glob(PATTERN))
    assert len(files) == 1
    assert len(committed(tmp_path / 'run' / 'checkpoints')) <= config.checkpoint.keep + 1
    assert not list((tmp_path / 'run').rglob('*tmp*'))
    steps = [step for _, step in read(files[0])]
    assert steps == sorted(steps)
    assert set(steps) == {2, 4, 6, 8, 10, 12, 14, 16}
