"""Damaged checkpoints, full disks, vanished folders, too little memory: one line, and nothing lost."""

import contextlib
import dataclasses
import errno
import gc
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
import runs
from tensorboard.backend.event_processing import event_file_loader
from test_reliability import assert_same

import train
from flaxnets.errors import UserError
from train import config as options
from train import data, evaluate, experiment, header, pace
from train.checkpointing import lock, manifest
from train.checkpointing.checkpoints import Checkpoints, committed
from train.distributed import processes
from train.distributed.runner import Runner
from train.metrics import EpochSums
from train.reporting import console, tensorboard
from train.runtime import faults
from train.runtime.signals import Stop, Stopped


@pytest.fixture(scope='module', autouse=True)
def _compile_once(tmp_path_factory):
    """Many runs of one small network."""
    settings = {
        'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('compiled')),
        'jax_persistent_cache_min_compile_time_secs': 0,
    }
    before = {key: getattr(jax.config, key) for key in settings}
    for key, value in settings.items():
        jax.config.update(key, value)
    yield
    for key, value in before.items():
        jax.config.update(key, value)


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


def config(shared, **changes):
    return runs.digits(shared, **{'epochs': 3, 'checkpoint__keep': 3} | changes)


@pytest.fixture(scope='module')
def whole(shared):
    """A run of three epochs of four steps, with a checkpoint of each."""
    train.run(config(shared), shared / 'whole')
    return shared / 'whole'


@pytest.fixture
def copy(whole, tmp_path):
    """That run as it was before its summary was written."""
    shutil.copytree(whole, tmp_path / 'copy')
    (tmp_path / 'copy' / 'summary.json').unlink()
    return tmp_path / 'copy'


def child(*arguments):
    """A finished Python process, started in the checkout."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=False, cwd=runs.ROOT, capture_output=True, text=True)


def files_of(checkpoint):
    return sorted(p for p in checkpoint.rglob('*') if p.is_file() and p.name != manifest.IGNORED)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_every_file_of_a_checkpoint_is_guarded(whole, tmp_path):
    chance = np.random.default_rng(0)
    folder = tmp_path / '12'
    shutil.copytree(whole / 'checkpoints' / '12', folder)
    assert manifest.damage(folder) == ''
    names = [path.relative_to(folder) for path in files_of(folder)]
    assert len(names) > 8
    for path in (folder / name for name in names):
        content = path.read_bytes()
        bits = {0, 8 * len(content) - 1, *map(int, chance.integers(0, 8 * len(content), 12))}
        if path.name == manifest.STAMPED:  # the time of the commit, a number, is not guarded
            start = content.index(b'commit_timestamp_nsecs')
            bits = {bit for bit in bits if not start <= bit // 8 < start + 50}
        for bit in bits:
            flip(path, bit)
            assert manifest.damage(folder) == f'{path} is truncated or altered', bit
            path.write_bytes(content)
        path.write_bytes(content[:-1])
        assert str(path) in manifest.damage(folder)
        path.unlink()
        assert f'{path} is missing' in manifest.damage(folder)
        path.write_bytes(content)
    assert manifest.damage(folder) == ''


def test_a_manifest_reads_nothing_outside_its_folder(tmp_path):
    secret, folder = tmp_path / 'secret', tmp_path / '1'
    secret.write_text('x')
    folder.mkdir()
    for name in ('../secret', str(secret), '..'):
        (folder / manifest.NAME).write_text(json.dumps({'files': {name: 'a'}, 'sum': 'b'}))
        assert manifest.damage(folder) == f'{folder / manifest.NAME} is truncated or altered'


@pytest.mark.parametrize('harm', ['altered', 'truncated', 'missing', 'no manifest'])
def test_the_next_older_checkpoint_is_used(copy, whole, shared, harm):
    newest = copy / 'checkpoints' / '12'
    path = max(files_of(newest / 'state'), key=lambda path: path.stat().st_size)
    if harm == 'altered':
        flip(path, 4 * path.stat().st_size)
    elif harm == 'truncated':
        os.truncate(path, path.stat().st_size // 2)
    elif harm == 'missing':
        path.unlink()
    else:
        path = newest / manifest.NAME
        path.unlink()
    with pytest.warns(RuntimeWarning, match=rf'checkpoint 12 is damaged \({path}') as warned:
        assert evaluate.evaluate(copy, checkpoint='last')['step'] == 8
    assert 'the newest undamaged one is 8' in str(warned[0].message)
    with (
        pytest.warns(RuntimeWarning, match='is damaged'),
        pytest.raises(UserError, match=rf'--checkpoint 12: {path}'),
    ):
        evaluate.evaluate(copy, checkpoint='12')
    with pytest.warns(RuntimeWarning, match='is damaged'):
        train.run(config(shared), copy)
    assert_same(copy, whole)


def test_no_whole_checkpoint_is_an_error_and_no_fresh_start(copy, shared):
    for step in committed(copy / 'checkpoints'):
        flip(copy / 'checkpoints' / str(step) / 'meta' / 'metadata', 100)
    before = sorted(copy.rglob('*'))
    with pytest.raises(
        UserError, match=r'all checkpoints of .* are damaged: .*4/meta/metadata is truncated or alt'
    ):
        train.run(config(shared), copy)
    assert sorted(p for p in copy.rglob('*') if p.name != lock.NAME) == [
        p for p in before if p.name != lock.NAME
    ]
    with pytest.raises(UserError, match='are damaged'):
        evaluate.evaluate(copy)


def test_a_save_that_never_finished_is_passed_over(copy, whole, shared):
    left = copy / 'checkpoints' / '12.orbax-checkpoint-tmp'
    (copy / 'checkpoints' / '12').rename(left)
    assert committed(copy / 'checkpoints') == [4, 8]
    train.run(config(shared), copy)
    assert not left.exists()
    assert_same(copy, whole)


def test_the_best_checkpoint_survives_resuming(shared, tmp_path):
    """Best by loss after the second epoch: too high a rate makes the rest worse."""
    changes = {'checkpoint__metric': 'loss', 'checkpoint__keep': 1, 'optimizer__name': 'sgd'}
    changes |= {'schedule__name': 'exponential', 'schedule__decay_epochs': 1.0}
    for number in range(1, 7):
        train.run(config(shared, epochs=number, optimizer__learning_rate=2.0, **changes), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    losses = {row['step']: row['test_loss'] for row in rows}
    best = min(losses, key=losses.get)
    assert set(committed(tmp_path / 'checkpoints')) == {best, 24}
    found = evaluate.evaluate(tmp_path, checkpoint='best')
    assert (found['step'], found['loss']) == (best, losses[best])
    checkpoints = Checkpoints(tmp_path, read_only=True)
    meta = checkpoints.meta(24)
    checkpoints.close()
    assert meta.best == {'test_loss': losses[best]}
    assert (meta.history, meta.sums) == (rows, EpochSums())
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['best_epoch'] == best // 4
    assert summary['best_test_accuracy'] == found['accuracy']


def test_a_checkpoint_can_be_evaluated_without_its_config(copy):
    expected = evaluate.evaluate(copy, checkpoint='8')
    (copy / 'config.json').write_text('{"epo')
    with pytest.warns(RuntimeWarning, match='config.json is not .*: that of checkpoint 12 is used'):
        assert evaluate.evaluate(copy, checkpoint='8') == expected
    (copy / 'config.json').unlink()
    assert evaluate.evaluate(copy, checkpoint='8') == expected


def test_what_may_change_is_said(copy, shared, capsys):
    changed = config(shared, epochs=4, log__every=7, schedule__name='constant')
    train.run(changed, copy)
    printed = capsys.readouterr().out
    assert 'changed since: epochs (3 there, 4 now), log.every (50 there, 7 now)' in printed
    changed.optimizer.momentum = 0.0
    changed.seed, changed.epochs = 5, 9
    message = r'another config: seed \(0 there, 5 now\); epochs \(4 there, 9 now\) may change\. .*--workdir'
    with pytest.raises(UserError, match=message + r'.* --config\.init_from\.path='):
        train.run(changed, copy)


def test_a_stretched_schedule_is_said(shared, tmp_path, capsys):
    for number in (1, 2):
        train.run(config(shared, epochs=number, schedule__name='cosine'), tmp_path)
    assert 'the cosine schedule now spans 2 epochs' in capsys.readouterr().out


def test_other_images_are_refused(copy, shared, monkeypatch):
    load = data.load_splits

    def altered(chosen, splits):
        sets = load(chosen, splits)
        return sets | {'train': dataclasses.replace(sets['train'], sha256='0123')}

    monkeypatch.setattr(data, 'load_splits', altered)
    with pytest.raises(
        UserError, match=r'the images have changed since checkpoint 12: train \(2:\w+ there, 2:\w+ now\)'
    ):
        train.run(config(shared, epochs=4), copy)


def test_chunks_leave_no_trace(whole, shared, tmp_path, monkeypatch):
    """Each second step is a chunk of its own, and each epoch is interrupted by a checkpoint."""
    monkeypatch.setattr(pace, 'CHUNK_SECONDS', 0.0)
    train.run(config(shared, checkpoint__every='3 steps'), tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(
    'moment', ['the first step', 'a step', 'just after a save', 'evaluation', 'the last evaluation']
)
def test_a_signal_at_any_moment(moment, whole, shared, tmp_path, monkeypatch):
    every = '1 step' if moment == 'just after a save' else '1 epoch'
    owner, name, count = {
        'the first step': (Runner, 'train', 1),
        'a step': (Runner, 'train', 6),
        'just after a save': (Runner, 'train', 7),
        'evaluation': (experiment.Experiment, 'evaluate', 2),
        'the last evaluation': (experiment.Experiment, 'evaluate', 3),
    }[moment]
    original, calls = getattr(owner, name), itertools.count(1)

    def signalled(*args, **kwargs):
        result = original(*args, **kwargs)
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(owner, name, signalled)
    monkeypatch.setattr(pace, 'CHUNK_SECONDS', 0.0)
    handler = signal.getsignal(signal.SIGTERM)
    where = r'saved at step \d+ of 12 in' if count > 1 else 'there is nothing to save yet'
    with pytest.raises(Stopped, match=f'SIGTERM: {where}'):
        train.run(config(shared, checkpoint__every=every), tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler
    train.run(config(shared), tmp_path)
    assert_same(tmp_path, whole)


def test_a_signal_before_anything_is_unsaved_ends_the_run():
    stop = Stop()
    with pytest.raises(Stopped, match='SIGTERM'):
        stop.handle(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        stop.handle(signal.SIGINT, None)
    with stop.interruptible(False):
        stop.handle(signal.SIGTERM, None)
        with pytest.raises(Stopped), stop.interruptible():
            pass


def test_one_run_a_workdir(tmp_path):
    with (
        lock.WorkdirLock(tmp_path),
        pytest.raises(UserError, match=rf'in use by another run \(process {os.getpid()}\)'),
        lock.WorkdirLock(tmp_path),
    ):
        pass
    with lock.WorkdirLock(tmp_path) as locked:
        locked.check()
        (tmp_path / lock.NAME).unlink()
        with pytest.raises(UserError, match='was removed or replaced'):
            locked.check()


def test_a_lock_does_not_outlive_its_process(tmp_path):
    code = 'import pathlib, os, sys; from train.checkpointing.lock import WorkdirLock; '
    code += 'WorkdirLock(pathlib.Path(sys.argv[1])).__enter__(); os.abort()'
    done = child('-c', code, tmp_path)
    assert done.returncode == -signal.SIGABRT, done.stderr
    with lock.WorkdirLock(tmp_path):
        pass


def test_a_vanished_workdir(shared, tmp_path, monkeypatch):
    epoch = console.Reporter.epoch

    def removes(self, row, epochs):
        epoch(self, row, epochs)
        shutil.rmtree(tmp_path / 'run')

    monkeypatch.setattr(console.Reporter, 'epoch', removes)
    with pytest.raises(UserError, match='the workdir was removed'):
        train.run(config(shared), tmp_path / 'run')
    assert not (tmp_path / 'run' / 'checkpoints' / '4').exists()


@pytest.mark.parametrize('count', [1, 2])
def test_out_of_memory_suggests_a_batch_size(shared, tmp_path, monkeypatch, count):
    """Also in one of several processes, where a failed sum is the other ones' fault."""
    train_some, calls = Runner.train, itertools.count()

    def exhausted(*args, **kwargs):
        if next(calls) < 6:
            return train_some(*args, **kwargs)
        monkeypatch.setattr(processes, 'count', lambda: count)
        text = 'RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.31GiB.'
        raise jax.errors.JaxRuntimeError(text)

    monkeypatch.setattr(Runner, 'train', exhausted)
    monkeypatch.setattr(pace, 'CHUNK_SECONDS', 0.0)
    message = r'out of memory \(allocating 9\.31GiB\) at batch size 64: try --config\.data\.batch_size=32 '
    message += r'\(--config\.optimizer\.accumulate=2 keeps the update\) or '
    with pytest.raises(UserError, match=message + '.*last good checkpoint is step 4 in'):
        train.run(config(shared), tmp_path)


class Limit(contextlib.AbstractContextManager):
    """Files may not grow beyond so many bytes: a disk that fills, without rights to make one."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


@pytest.fixture
def _left_open():
    """orbax leaves coroutines and an event loop behind where a save failed; collected here."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        gc.collect()
        sys.unraisablehook = hook


LEFT_OPEN = pytest.mark.usefixtures('_left_open')
IGNORED = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


@LEFT_OPEN
@IGNORED
@pytest.mark.parametrize('tensorboard', [False, True])
def test_a_file_that_may_not_grow(copy, shared, tensorboard):
    longer = config(shared, epochs=6, log__tensorboard=tensorboard)
    good = (copy / 'checkpoints' / '12' / manifest.NAME).read_text()
    with pytest.raises(UserError, match=r'may not grow.*last good checkpoint is step 12 in'), Limit(4000):
        train.run(longer, copy)
    assert (copy / 'checkpoints' / '12' / manifest.NAME).read_text() == good
    assert manifest.damage(copy / 'checkpoints' / '12') == ''
    train.run(longer, copy)


@LEFT_OPEN
@IGNORED
@pytest.mark.parametrize('tensorboard', [False, True])
def test_a_full_disk(small_disk, shared, tensorboard):
    with pytest.raises(
        UserError, match=r'the disk is full: free some space.*last good checkpoint is step \d+ in'
    ):
        train.run(
            config(shared, epochs=30, log__tensorboard=tensorboard, checkpoint__keep=30), small_disk / 'run'
        )
    for step in committed(small_disk / 'run' / 'checkpoints'):
        assert manifest.damage(small_disk / 'run' / 'checkpoints' / str(step)) == ''


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE])
def test_system_errors_are_explained_however_deep_they_lie(number):
    inner = OSError(number, os.strerror(number), '/mnt/run/x')
    outer = ValueError('a save failed')
    outer.__cause__ = inner
    assert faults.system(outer) == f'/mnt/run/x: {faults.REMEDIES[number]}'
    text = ValueError(f'UNKNOWN: writing "/mnt/run/x": [OS error {number}: {os.strerror(number)}]')
    if number != errno.EMFILE:
        assert faults.REMEDIES[number] in faults.system(text)
    text = f'Error writing "params/kernel/0.0" and /kernel/0.0: [OS error {errno.ENOSPC}: No space left]'
    assert faults.system(ValueError(text)) == faults.REMEDIES[errno.ENOSPC]
    assert faults.system(ValueError('a bug')) == ''
    full = ValueError('RESOURCE_EXHAUSTED: No space left on device')  # TensorStore's words for a full disk
    for error in (ValueError('a bug'), outer, full):
        assert faults.out_of_memory(error, options.defaults()) == ''


# Root may write anywhere until it gives up these rights for good, which takes effect with the next program.
UNPRIVILEGED = """
import ctypes, os, sys
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
if os.geteuid() == 0:
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, right, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], *sys.argv[2:]])
"""
SEVERAL = """
import json, sys
from train import cli
print(*[cli.main(['train', *arguments]) for arguments in json.loads(sys.argv[1])])
"""


def test_folders_that_may_not_be_written_or_read(tmp_path):
    """As root, in a child that drops its privileges."""
    closed, secret = tmp_path / 'closed', tmp_path / 'secret'
    closed.mkdir(mode=0o555), secret.mkdir(mode=0o000)
    base = ['--config', 'configs/branching_attn.py:digits', '--config.parallel=single']
    base += [f'--config.data.cache_dir={tmp_path / "cache"}', '--config.data.limit=50']
    unreadable = [f'--config.data.data_dir={secret}', '--config.data.name=cifar10']
    runs_ = [
        [*base, '--workdir', f'{closed}/run'],
        [*base, '--workdir', str(closed)],
        [*base, '--workdir', f'{tmp_path}/run', *unreadable],
    ]
    done = child('-c', UNPRIVILEGED, SEVERAL, json.dumps(runs_))
    assert done.stdout.split()[-3:] == ['2', '2', '2'], done.stderr
    first, second, third = done.stderr.splitlines()
    for line in (first, second):
        assert str(closed) in line
        assert 'permission denied: choose another --workdir' in line
    assert str(secret) in third


def test_deterministic_says_what_it_does(shared, tmp_path, capsys, monkeypatch):
    assert train.run(config(shared, epochs=1, deterministic=True), tmp_path)
    assert 'deterministic no effect on cpu' in capsys.readouterr().out
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setenv('XLA_FLAGS', '')
    with pytest.raises(UserError, match='start with `python -m train`'):
        header.determinism(config(shared))
    monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_deterministic_ops=true')
    assert header.determinism(config(shared)) == 'XLA runs its deterministic operations'


def test_events_of_a_killed_run_are_cut_back(tmp_path):
    for start in (0, 5):
        curves = tensorboard.Events(tmp_path, 9)
        for step in range(start, start + 6):
            curves.add({'step/loss': 1.0, 'step/learning_rate': 0.1}, step)
        curves.file.write(b'\x20\0\0\0\0\0\0\0half a record')
        curves.close()
    tensorboard.Events(tmp_path, 7).close()
    (file,) = tmp_path.iterdir()
    assert [step for _, step in tensorboard.read(file)] == [0, 1, 2, 3, 4, 5, 5, 6, 7]
    loaded = event_file_loader.EventFileLoader(str(file)).Load()  # as TensorBoard itself reads it
    assert [event.step for event in loaded][1:] == [0, 1, 2, 3, 4, 5, 5, 6, 7]
