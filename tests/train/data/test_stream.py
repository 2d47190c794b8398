"""A streamed set and one on the device: the same batches, the same parameters, wherever a run resumes."""

import dataclasses
import json
import math
import shutil
import threading

import jax
import numpy as np
import pytest
import runs
import tiny_sets
from flax import nnx

import train
from flaxnets.layers.dropout import Dropout
from train import memory
from train.checkpointing.checkpoints import Checkpoints
from train.data import pipeline, stream
from train.data.imageset import ImageSet
from train.data.pipeline import Resident
from train.data.stream import HostBatches, Stream
from train.distributed.runner import Runner
from train.reporting import console


class Small(nnx.Module):
    """A linear layer after dropout: what a test of the data needs, and quick to compile."""

    def __init__(self, *, num_classes, image_shape, dtype=None, param_dtype=None, rngs):
        self.linear = nnx.Linear(math.prod(image_shape), num_classes, param_dtype=param_dtype, rngs=rngs)
        self.dropout = Dropout(0.3)

    def __call__(self, images, *, rngs=None):
        return self.linear(self.dropout(images.reshape(len(images), -1), rngs=rngs))


def augmented(tmp_path, placement, **changes):
    """200 images in batches of 64, cropped and flipped: the last batch of an epoch has 8."""
    config = runs.digits(tmp_path, data__placement=placement, data__workers=2, **changes)
    config.data.augment.crop = 2
    config.data.augment.flip = True
    return config


def small(config):
    config.model = {'name': f'{__name__}:Small'}
    return config


def left_behind(workdir):
    """(rows of metrics.jsonl without their times, the state at the end)."""
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k not in console.VARYING_KEYS} for line in lines]
    checkpoints = Checkpoints(workdir, read_only=True)
    state = checkpoints.manager.restore(checkpoints.find('last'))['state']
    checkpoints.close()
    return rows, state


def assert_same_end(a, b):
    assert left_behind(a)[0] == left_behind(b)[0]
    jax.tree.map(np.testing.assert_array_equal, left_behind(a)[1], left_behind(b)[1])


def test_both_placements_train_the_same(tmp_path, capsys):
    for placement, said in (('device', 'on the device'), ('stream', 'streamed from the cache')):
        train.run(augmented(tmp_path, placement), tmp_path / placement)
        assert said in capsys.readouterr().out
    assert_same_end(tmp_path / 'device', tmp_path / 'stream')
    assert len(left_behind(tmp_path / 'stream')[0]) == 2


def test_a_stream_resumes_within_an_epoch_and_dropout_draws_the_same(tmp_path, capsys):
    train.run(small(augmented(tmp_path, 'device')), tmp_path / 'device')
    config = small(augmented(tmp_path, 'stream', checkpoint__every='3 steps', checkpoint__keep=9))
    train.run(config, tmp_path / 'parts')
    (tmp_path / 'parts' / 'summary.json').unlink()
    for step in ('4', '6', '8'):
        shutil.rmtree(tmp_path / 'parts' / 'checkpoints' / step, ignore_errors=True)
    capsys.readouterr()
    train.run(config, tmp_path / 'parts')
    assert 'resumed at step 3 of 8' in capsys.readouterr().out
    assert_same_end(tmp_path / 'device', tmp_path / 'parts')


def test_chunks_in_a_loop_on_the_device_train_the_same(tmp_path, monkeypatch):
    """As on an accelerator; a stream goes step by step there, too."""
    train.run(small(augmented(tmp_path, 'device')), tmp_path / 'steps')
    monkeypatch.setattr(Runner, 'scans', property(lambda _: True, lambda *_: None), raising=False)
    for placement in ('device', 'stream'):
        train.run(small(augmented(tmp_path, placement)), tmp_path / placement)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            left_behind(tmp_path / placement)[1]['params'],
            left_behind(tmp_path / 'steps')[1]['params'],
        )


@pytest.mark.parametrize('parallel', ['jit', 'pmap'])
def test_several_devices_share_a_stream(tmp_path, parallel):
    for placement in ('device', 'stream'):
        config = augmented(tmp_path, placement, epochs=1, data__limit=70, parallel=parallel, devices=2)
        train.run(small(config), tmp_path / placement)
    assert_same_end(tmp_path / 'device', tmp_path / 'stream')


@pytest.fixture
def images():
    return ImageSet.of(
        *tiny_sets.arrays((8, 6, 3), counts={'train': 21})['train'], range(10), name='a', split='train'
    )


ROWS = pipeline.rows(pipeline.epoch_order(0, 0, 21), 8, 2)


@pytest.mark.parametrize('workers', [1, 3])
def test_a_streams_batches_are_those_gathered_on_the_device(images, workers):
    resident = Resident(jax.numpy.asarray(images.images), jax.numpy.asarray(images.labels))
    expected = [pipeline.take(resident, row) for row in ROWS]
    whole = Stream(images, workers=workers, own=lambda width: slice(0, width), join=jax.numpy.asarray)
    resident_feed, got = whole.feed(ROWS)
    assert resident_feed is None
    got = list(got)
    assert len(got) == 3
    for a, b in zip(got, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.map(lambda x: x.dtype, got[0]) == jax.tree.map(lambda x: x.dtype, expected[0])


def test_each_process_reads_its_own_images_alone(images):
    asked = []

    class Watched:
        def __getitem__(self, key):
            asked.append(key)
            return images.images[key]

    watched = dataclasses.replace(images, pixels=Watched())
    parts = [
        list(Stream(watched, workers=1, own=lambda _, part=part: part, join=np.asarray).feed(ROWS).parts)
        for part in (slice(0, 4), slice(4, 8))
    ]
    assert {len(key) for key in asked} == {4}
    whole = HostBatches(images, ROWS)
    for i, halves in enumerate(zip(*parts, strict=True)):
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), *halves)
        jax.tree.map(np.testing.assert_array_equal, joined, whole[i])


def test_a_stream_ends_its_threads_and_passes_errors_on(images):
    before = set(threading.enumerate())
    batches = Stream(images, workers=3, own=lambda _: slice(None), join=np.asarray).feed(ROWS).parts
    next(batches)
    batches.close()
    for thread in threading.enumerate():
        if 'grain' in thread.name:
            thread.join(timeout=5)
    assert set(threading.enumerate()) <= before

    class Unreadable:
        def __getitem__(self, key):
            raise OSError(5, 'Input/output error', 'images.npy')

    broken = dataclasses.replace(images, pixels=Unreadable())
    with pytest.raises(OSError, match=r'images\.npy'):
        next(Stream(broken, workers=1, own=lambda _: slice(None), join=np.asarray).feed(ROWS).parts)


@pytest.mark.parametrize(
    ('placement', 'needed', 'free', 'fits'),
    [
        ('auto', 100e6, 1e9, True),
        ('auto', 600e6, 1e9, False),
        ('auto', 600e6, None, True),
        ('device', 600e6, 1e9, True),
        ('stream', 1, 1e9, False),
    ],
)
def test_what_is_chosen_and_said(placement, needed, free, fits):
    chosen, said = stream.place(placement, needed, free)
    assert chosen == fits
    assert ('on the device (' in said) == fits
    assert stream.megabytes(needed) in said
    assert ('unknown' in said) == (free is None)


def test_available_memory(tmp_path, monkeypatch):
    assert 10e6 < memory.available() < 1e14
    monkeypatch.setattr(memory, 'MEMINFO', tmp_path / 'meminfo')
    monkeypatch.setattr(memory, 'CGROUP', tmp_path)
    assert memory.available() > 10e6  # no such file
    (tmp_path / 'meminfo').write_text('MemTotal:  9000 kB\nMemAvailable:  8000 kB\n')
    assert memory.available() == 8000 * 1024
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.available() == 8000 * 1024
    (tmp_path / 'memory.max').write_text('5000\n')
    (tmp_path / 'memory.current').write_text('3000\n')
    (tmp_path / 'memory.stat').write_text('anon 2000\ninactive_file 1000\n')
    assert memory.available() == 5000 - 3000 + 1000
