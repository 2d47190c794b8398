"""However many devices share a batch, and however they do, the same is computed."""

import functools
import json
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from flax import nnx
from small_models import SMALL

import flaxnets
import train
from flaxnets.errors import UserError
from train import config as options
from train import experiment, optim, step
from train import state as states
from train.data import pipeline
from train.data.pipeline import Feed, Resident
from train.distributed import devices, processes
from train.distributed.devices import Devices
from train.distributed.runner import Runner, read

# Compiling is what takes the time here: a ConvNN model's layers are alike, so one is enough.
CASES = {
    name: (name, given | ({'num_layers': 1} if 'num_layers' in given else {}))
    for name, given in SMALL.items()
}
# Two layers are enough for batch norm and dropout as well.
CASES['profiled_cnn'] = 'profiled_cnn', {'image_shape': (4, 5, 3), 'widths': (3, 4), 'hidden': (8, 7)}
CASES['mlp wide'] = 'mlp', {'image_shape': (8, 8, 1), 'hidden': (64, 64)}
CLASSES, SIZE, BATCH, STEPS = 4, 21, 8, 10
WAYS = [('jit', 2), ('jit', 8), ('pmap', 2), ('pmap', 8)]
# Together they have every part that could depend on the number of devices:
# batch norm, dropout, random candidates.
DIVIDED = ('profiled_cnn', 'branching_random', 'vgg16')


def augmented(**changes):
    config = options.defaults()
    config.data.augment.update({'crop': 1, 'flip': True, 'brightness': 0.1, **changes})
    return config


@functools.cache
def built(case, precision):
    """(structure, parameters, statistics) of a small model, on the host."""
    name, given = CASES[case]
    dtype = jnp.float64 if precision == 'float64' else jnp.float32
    model = flaxnets.create_model(name, num_classes=CLASSES, param_dtype=dtype, **given, rngs=nnx.Rngs(0))
    structure, *values = states.split(model)
    return structure, *jax.device_get(values)


def setup(case, way, count, config, *, optimizer=None, ema=0.0):
    """(runner, state on its devices, data) of a small model."""
    structure, params, stats = built(case, config.precision)
    shape = CASES[case][1]['image_shape']
    # Not adam: it would turn the rounding of a gradient that is 0 into a whole step.
    optimizer = optimizer or optax.sgd(0.05, momentum=0.9)
    devices = Devices.create(way, count)
    task = step.Task(
        structure=structure,
        optimizer=optimizer,
        prepare=experiment.preparation(config, CLASSES, shape[-1], devices.axis_name),
        num_labels=CLASSES,
        num_classes=CLASSES,
        ema=ema,
        axis_name=devices.axis_name,
    )
    initial = states.create(params, stats, optimizer, seed=0, ema=bool(ema))
    rng = np.random.default_rng(0)
    data = Resident(
        jnp.asarray(rng.integers(0, 256, (SIZE, *shape)), jnp.uint8),
        jnp.asarray(rng.integers(0, CLASSES, SIZE), jnp.int32),
    )
    runner = Runner(task, devices, chunk=24, layout=devices.layout(initial))
    return runner, devices.place(initial), devices.replicate(data)


def batches(batch_size, count):
    """Four epochs, each of which ends with a partial batch."""
    orders = [pipeline.epoch_order(0, epoch, SIZE) for epoch in range(4)]
    return np.concatenate([pipeline.rows(order, batch_size, count) for order in orders])


def trained(case, way, count, config, *, evaluate=False):
    """(parameters and statistics, metrics[, evaluation]) after ten steps."""
    runner, state, data = setup(case, way, count, config)
    rows = batches(BATCH, count)
    state, metrics = runner.train(state, Feed(data, iter(rows)), STEPS)
    values = jax.device_get((state.params, state.stats)), read(metrics)
    if not evaluate:
        return values
    return *values, runner.evaluate(state.params, state.stats, Feed(data, iter(rows[:3])))


agree = chex.assert_trees_all_close


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize('case', SMALL)
@pytest.mark.usefixtures('float64')
def test_every_model_is_the_same_on_any_number_of_devices(case, monkeypatch):
    monkeypatch.setattr(devices, 'SMALL', 16)
    config = augmented() if case == 'cnn' else options.defaults()
    config.precision = 'float64'
    expected = trained(case, 'single', 1, config)
    for way, count in [*WAYS, ('fsdp', 8)] if case in DIVIDED else WAYS:
        got = trained(case, way, count, config)
        agree(got, expected, rtol=1e-12, atol=1e-12)


def test_float32_and_mixed_images():
    config = augmented(mixup=0.5, cutmix=0.5, contrast=0.1, cutout=2)
    expected = trained('mlp', 'single', 1, config, evaluate=True)
    for way in ('jit', 'pmap'):
        got = trained('mlp', way, 8, config, evaluate=True)
        agree(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures('float64')
def test_accumulated_gradients_are_those_of_the_large_batch():
    """Also where an epoch's last update has fewer batches, the last of them partial."""
    config = options.defaults()
    config.precision = 'float64'
    config.epochs = 4
    config.optimizer.clip_norm = 0.5
    config.schedule.update({'name': 'cosine', 'unit': 'step', 'warmup_epochs': 1.0})
    ends = []
    for accumulate, size in ((1, 12), (3, 4)):
        config.optimizer.accumulate = accumulate
        rows = batches(size, 1)
        optimizer = optim.create(config, steps_per_epoch=len(rows) // 4)
        runner, state, data = setup('mlp', 'single', 1, config, optimizer=optimizer, ema=0.9)
        state, metrics = runner.train(state, Feed(data, iter(rows)), len(rows))
        rates = optim.rate_of_step(config, steps_per_epoch=len(rows) // 4)
        ends.append((state.params, state.ema, [rates(step) for step in range(0, len(rows), accumulate)]))
        losses = read(metrics)['loss'].reshape(4, -1)
    large, small = ends
    agree(small[:2], large[:2], rtol=1e-12, atol=1e-12)
    assert losses[-1].mean() < losses[0].mean()


def test_the_rate_of_a_step_is_that_of_its_update():
    config = options.defaults()
    config.epochs = 3
    config.schedule.update({'name': 'cosine', 'unit': 'step'})
    large = optim.rate_of_step(config, steps_per_epoch=2)
    config.optimizer.accumulate = 3
    small = optim.rate_of_step(config, steps_per_epoch=5)
    updates = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert [small(step) for step in range(15)] == [large(update) for update in updates]


def test_divided_state_takes_a_part_of_the_memory(monkeypatch):
    monkeypatch.setattr(devices, 'SMALL', 64)
    config = options.defaults()
    runner, state, data = setup('mlp wide', 'fsdp', 8, config)
    for _ in range(2):
        on_one = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
        assert on_one < 0.2 * sum(x.nbytes for x in jax.tree.leaves(state))
        kernel = max(state.params.values(), key=lambda value: value.size)
        assert devices.AXIS in kernel.sharding.spec
        state, _ = runner.train(state, Feed(data, iter(batches(BATCH, 8))), 1)


def test_a_checkpoint_continues_on_other_devices(tmp_path):
    changes = {'epochs': 3, 'optimizer__name': 'sgd', 'optimizer__learning_rate': 0.1}
    train.run(runs.digits(tmp_path, parallel='single', **changes), tmp_path / 'one')
    for epochs, way, count in ((1, 'jit', 8), (2, 'single', 0), (3, 'fsdp', 4)):
        parts = changes | {'epochs': epochs, 'parallel': way, 'devices': count}
        summary = train.run(runs.digits(tmp_path, **parts), tmp_path / 'parts')
        assert summary['devices'].startswith(f'{count or 1} x ')
    one, parts = (
        [json.loads(line) for line in (tmp_path / name / 'metrics.jsonl').read_text().splitlines()]
        for name in ('one', 'parts')
    )
    for expected, got in zip(one, parts, strict=True):
        for key in ('train_loss', 'test_loss'):
            assert got[key] == pytest.approx(expected[key], rel=1e-4)


@pytest.mark.parametrize(
    ('way', 'count', 'message'),
    [
        ('jit', 9, 'config.devices: expected 1 to 8, the devices there are, or 0 for all of them, got 9'),
        ('single', 2, 'config.devices: expected 0 or 1 with parallel=single, got 2; use parallel=jit'),
    ],
)
def test_devices_that_are_not_there(way, count, message):
    with pytest.raises(UserError) as error:
        Devices.create(way, count)
    assert str(error.value) == message


def test_a_batch_smaller_than_the_devices():
    Devices.create('jit').check(7)
    with pytest.raises(UserError, match=r'config\.data\.batch_size: expected at least 8, an image for each'):
        Devices.create('pmap').check(7)


@pytest.mark.parametrize(
    ('way', 'count', 'owners', 'message'),
    [
        (
            'single',
            0,
            [0, 0, 1, 1],
            'config.parallel: expected jit, pmap or fsdp for 2 processes, got',
        ),
        ('jit', 2, [0, 0, 1, 1], 'config.devices: expected 0 or 4, all the devices of 2 processes, got 2'),
        ('jit', 0, [0, 0, 1], 'processes: expected as many devices in each, got 2, 1'),
    ],
)
def test_processes_that_cannot_share(monkeypatch, way, count, owners, message):
    devices = [types.SimpleNamespace(process_index=owner, id=i) for i, owner in enumerate(owners)]
    monkeypatch.setattr(jax, 'devices', lambda: devices)
    monkeypatch.setattr(processes, 'count', lambda: 2)
    with pytest.raises(UserError, match=message):
        Devices.create(way, count)
