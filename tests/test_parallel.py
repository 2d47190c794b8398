"""However many devices share a batch, and however they do, the same is computed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_models import SMALL, VARIANTS

import flaxnets
from train import config as options
from train import experiment, parallel, step
from train import state as states
from train.data import pipeline
from train.data.pipeline import Resident

# Compiling is what takes the time here: a ConvNN model's layers are alike, so one is enough.
CASES = {
    name: (name, given | ({'num_layers': 1} if 'num_layers' in given else {}))
    for name, given in SMALL.items()
}
NORM = 'mnist_cnn', VARIANTS['mnist_cnn norm'][1]
CLASSES, SIZE, BATCH, STEPS = 4, 21, 8, 10
# Every model on a few and on all devices, by jit and by pmap; two of them, which together hold all that
# could tell devices apart (batch norm, dropout, random candidates), every way.
WAYS = [('jit', 8), ('pmap', 2)]
EVERY_WAY = [*WAYS, ('jit', 2), ('pmap', 8), ('fsdp', 8)]
IN_FULL = ('profiled_cnn', 'branching_random')


def augmented(**changes):
    config = options.defaults()
    config.data.augment.update({'crop': 1, 'flip': True, 'brightness': 0.1, **changes})
    return config


def setup(case, way, count, config, *, optimizer=None):
    """(runner, state on its devices, data) of a small model."""
    name, given = case
    dtype = jnp.float64 if config.precision == 'float64' else jnp.float32
    shape = given['image_shape']
    model = flaxnets.create_model(name, num_classes=CLASSES, param_dtype=dtype, **given, rngs=nnx.Rngs(0))
    structure, params, stats = states.split(model)
    # Not adam: it would turn the rounding of a gradient that is 0 into a whole step.
    optimizer = optimizer or optax.sgd(0.05, momentum=0.9)
    devices = parallel.Devices.create(way, count)
    task = step.Task(
        structure=structure,
        optimizer=optimizer,
        prepare=experiment.preparation(config, CLASSES, shape[-1], devices.axis_name),
        num_labels=CLASSES,
        num_classes=CLASSES,
        axis_name=devices.axis_name,
    )
    initial = states.create(params, stats, optimizer, seed=0, ema=False)
    rng = np.random.default_rng(0)
    data = Resident(
        jnp.asarray(rng.integers(0, 256, (SIZE, *shape)), jnp.uint8),
        jnp.asarray(rng.integers(0, CLASSES, SIZE), jnp.int32),
    )
    runner = parallel.Runner(task, devices, chunk=3, layout=devices.layout(initial))
    return runner, devices.place(initial), devices.replicate(data)


def trained(case, way, count, config, *, evaluate=False, **kwargs):
    """(parameters and statistics, metrics[, evaluation]) after ten steps, each third on a partial batch."""
    runner, state, data = setup(case, way, count, config, **kwargs)
    epochs = [
        pipeline.rows(pipeline.epoch_order(0, epoch, SIZE), BATCH, count) for epoch in range(-(-STEPS // 3))
    ]
    state, metrics = runner.train(state, data, np.concatenate(epochs)[:STEPS])
    values = jax.device_get((state.params, state.stats)), parallel.read(metrics)
    return (*values, runner.evaluate(state.params, state.stats, data, epochs[0])) if evaluate else values


agree = chex.assert_trees_all_close


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize('case', CASES)
@pytest.mark.usefixtures('float64')
def test_every_model_is_the_same_on_any_number_of_devices(case, monkeypatch):
    monkeypatch.setattr(parallel, 'SMALL', 16)
    full = case in IN_FULL
    config = augmented() if full else options.defaults()
    config.precision = 'float64'
    expected = trained(CASES[case], 'single', 1, config, evaluate=full)
    for way, count in EVERY_WAY if full else WAYS:
        got = trained(CASES[case], way, count, config, evaluate=full)
        agree(got, expected, rtol=1e-12, atol=1e-12)


def test_float32_and_mixed_images():
    config = augmented(mixup=0.5, cutmix=0.5, contrast=0.1, cutout=2)
    expected = trained(NORM, 'single', 1, config)
    for way in ('jit', 'pmap'):
        got = trained(NORM, way, 8, config)
        agree(got, expected, rtol=1e-4, atol=1e-5)
