"""Weights cross between PyTorch and flaxnets without changing what is computed."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flaxnets
from flaxnets import interop, registry

torch = pytest.importorskip('torch')
from small_models import DEEPER  # noqa: E402
from twins import CASES, CHOOSES_NEIGHBOURS, MODELS, Pair, apply  # noqa: E402

from train import config as options  # noqa: E402
from train import optim, state  # noqa: E402

STEPS_PER_EPOCH, EPOCHS = 2, 3
LENGTH = 30_000  # values of the largest model here
# Adam's rates are low, because it magnifies rounding where a gradient is zero but for rounding: at a
# bias before batch normalisation, at the bias of an attention's keys.
OPTIMIZERS = {
    'sgd': ({'name': 'sgd', 'learning_rate': 0.05}, lambda p: torch.optim.SGD(p, 0.05)),
    'momentum': (
        {'name': 'sgd', 'learning_rate': 0.05, 'momentum': 0.9, 'weight_decay': 0.01},
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.01),
    ),
    'adam': ({'name': 'adam', 'learning_rate': 1e-3}, lambda p: torch.optim.Adam(p, 1e-3)),
    'adamw': (
        {'name': 'adamw', 'learning_rate': 1e-3, 'weight_decay': 0.1},
        lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
    ),
}


def test_every_registered_model_has_a_case():
    assert MODELS.keys() | DEEPER.keys() >= set(flaxnets.list_models())


@pytest.mark.parametrize('case', CASES)
def test_logits_agree_both_ways(case):
    """Import, logits and running statistics in both modes, export."""
    with jax.enable_x64(True):
        pair = Pair(case)
        run = Functions(pair)
        compare_logits(pair, run, 1e-9)
        compare_export(pair, run)


@pytest.mark.parametrize('case', sorted(set(MODELS.values()) - CHOOSES_NEIGHBOURS))
def test_logits_agree_in_float32(case):
    pair = Pair(case, jnp.float32)
    compare_logits(pair, Functions(pair), 1e-4)


@pytest.mark.parametrize('case', MODELS.values())
def test_training_agrees(case):
    """Five steps with each optimiser and a cosine schedule that moves the rate once an epoch."""
    with jax.enable_x64(True):
        pair = Pair(case)
        compare_training(pair, Functions(pair))


class Functions:
    """The compiled functions of a pair's model."""

    def __init__(self, pair):
        self.structure, *_ = state.split(pair.model)

        def forward(params, stats, images, pools, training):
            model = self.structure.merge(params, stats)
            logits = apply(model, images, pools, training)
            return logits, state.statistics(model)

        def train(params, stats, images, labels, pools):
            def loss(params):
                logits, new = forward(params, stats, images, pools, True)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), (logits, new)

            return jax.grad(loss, has_aux=True)(params)

        # Low levels compile in half and a third of the time; at level 0 some gradients are NaN.
        quick = {'xla_backend_optimization_level': 0}
        self.forward = jax.jit(forward, static_argnums=4, compiler_options=quick)
        self.train = jax.jit(train, compiler_options={'xla_backend_optimization_level': 1})


def close(actual, expected, tolerance, message=''):
    expected = np.asarray(expected)
    scale = max(np.max(np.abs(expected), initial=0), 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=message)


def compare_logits(pair, run, tolerance):
    _, params, stats = state.split(pair.model)
    images, _, pools = pair.batch()
    for training in (False, True) if stats else (False,):  # without statistics the modes are one
        logits, stats = run.forward(params, stats, images, pools, training)
        close(logits, pair.twin_logits(images, pools, training).detach(), tolerance, f'{training=}')
    compare_values(pair, run.structure.merge(params, stats), tolerance)


def compare_values(pair, model, tolerance):
    exported = interop.to_torch(model)
    theirs = pair.twin.state_dict()
    assert theirs.keys() == exported.keys()
    for key in exported.keys() - registry.ignored_keys(model).keys():
        close(exported[key], theirs[key], tolerance, key)


def compare_export(pair, run):
    """A model with other values is loaded by a twin, strictly: what it never uses is there, as zeros."""
    other = Pair(pair.case, seed=1)
    tensors = {key: interop.to_tensor(value) for key, value in interop.to_torch(other.model).items()}
    pair.twin.load_state_dict(tensors, strict=True)
    unused = registry.ignored_keys(pair.model)
    assert not any(tensors[key].any() for key in unused)
    assert interop.to_torch(other.model, unused=False).keys() == tensors.keys() - unused.keys()
    images, _, pools = pair.batch()
    _, params, stats = state.split(other.model)
    expected = pair.twin_logits(images, pools, training=False).detach()
    close(run.forward(params, stats, images, pools, False)[0], expected, 1e-9)


# Biases that batch normalisation subtracts again have rounding for a gradient, which Adam enlarges.
TOLERANCES = {'vgg11': 1e-8, 'resnet18': 1e-8}


def compare_training(pair, run):
    start = {key: value.clone() for key, value in pair.twin.state_dict().items()}
    for changes, make in OPTIMIZERS.values():
        pair.twin.load_state_dict(start)
        theirs = make(pair.twin.parameters())
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, EPOCHS)
        _, params, stats = state.split(interop.from_torch(pair.model, start))
        vectors, unravel = raveled(params)
        rule = update_rule(**changes)
        memory = rule.init(vectors)
        for step in range(5):
            images, labels, pools = pair.batch()
            gradients, (_, stats) = run.train(params, stats, images, labels, pools)
            vectors, memory = rule.update(raveled(gradients)[0], memory, vectors)
            params = unravel(vectors)

            theirs.zero_grad()
            logits = pair.twin_logits(images, pools, training=True)
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
            theirs.step()
            if (step + 1) % STEPS_PER_EPOCH == 0:
                rate.step()
        compare_values(pair, run.structure.merge(params, stats), TOLERANCES.get(pair.name, 1e-9))


def raveled(values):
    """All values in a row of one length for all models, so that an update is compiled once; queries
    and keys, which no gradient reaches and PyTorch therefore leaves alone, apart."""
    fixed = {
        key: value
        for key, value in values.items()
        if re.search('^layers/.*(query|key)/kernel', key) and value.ndim == 2
    }
    parts = {'moved': {k: v for k, v in values.items() if k not in fixed}, 'fixed': fixed}

    def pad(part):
        row = np.concatenate([np.zeros(0), *(np.ravel(value) for value in part.values())])
        return np.pad(row, (0, LENGTH - row.size))

    def unravel(vectors):
        result = {}
        for name, part in parts.items():
            row = np.asarray(vectors[name])
            for key, value in part.items():
                result[key], row = row[: value.size].reshape(value.shape), row[value.size :]
        return result

    return {name: pad(part) for name, part in parts.items()}, unravel


@functools.cache
def update_rule(**changes):
    """The program's optimiser."""
    config = options.defaults()
    config.epochs = EPOCHS
    config.schedule.name = 'cosine'
    config.optimizer.update(changes)
    config = options.validate(config)
    rule = optim.create(config, steps_per_epoch=STEPS_PER_EPOCH, fixed=frozenset({'fixed'}))

    def update(gradients, memory, values):
        updates, memory = rule.update(gradients, memory, values)
        return optax.apply_updates(values, updates), memory

    return optax.GradientTransformation(rule.init, jax.jit(update))
