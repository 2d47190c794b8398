"""Optimisers and schedules against torch.optim, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from train import config as options
from train import optim

STEPS_PER_EPOCH = 3
STEPS = 12


def config(**changes):
    made = options.defaults()
    made.epochs = STEPS // STEPS_PER_EPOCH
    made.schedule.unit = 'epoch'
    for key, value in changes.items():
        section, _, name = key.partition('__')
        made[section][name] = value
    return options.validate(made)


def ours(made, start, gradients):
    with jax.enable_x64(True):
        rule = optim.create(made, steps_per_epoch=STEPS_PER_EPOCH)
        params = {'a/kernel': jnp.asarray(start[0]), 'a/bias': jnp.asarray(start[1])}
        state = rule.init(params)
        for kernel, bias in gradients:
            grads = {'a/kernel': jnp.asarray(kernel), 'a/bias': jnp.asarray(bias)}
            updates, state = rule.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return [np.asarray(params['a/kernel']), np.asarray(params['a/bias'])]


def theirs(make, make_schedule, start, gradients, clip=0.0):
    params = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    rule = make(params)
    schedule = make_schedule(rule) if make_schedule else None
    for step, gradient in enumerate(gradients):
        for parameter, value in zip(params, gradient, strict=True):
            parameter.grad = torch.tensor(value)
        if clip:
            torch.nn.utils.clip_grad_norm_(params, clip)
        rule.step()
        if schedule is not None and (step + 1) % STEPS_PER_EPOCH == 0:
            schedule.step()
    return [parameter.detach().numpy() for parameter in params]


@pytest.mark.parametrize(
    ('changes', 'make', 'make_schedule'),
    [
        ({'optimizer__name': 'adam'}, lambda p: torch.optim.Adam(p, 0.1), None),
        (
            {'optimizer__name': 'adam', 'optimizer__weight_decay': 0.1, 'optimizer__b1': 0.85},
            lambda p: torch.optim.Adam(p, 0.1, betas=(0.85, 0.999), weight_decay=0.1),
            None,
        ),
        (
            {'optimizer__name': 'adamw', 'optimizer__weight_decay': 0.1, 'schedule__name': 'cosine'},
            lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS // STEPS_PER_EPOCH),
        ),
        ({'optimizer__name': 'sgd'}, lambda p: torch.optim.SGD(p, 0.1), None),
        (
            {'optimizer__name': 'sgd', 'optimizer__momentum': 0.9, 'optimizer__weight_decay': 0.1},
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
            None,
        ),
        (
            {
                'optimizer__name': 'sgd',
                'optimizer__momentum': 0.9,
                'optimizer__nesterov': True,
                'schedule__name': 'exponential',
                'schedule__decay_rate': 0.5,
                'schedule__decay_epochs': 1.0,
            },
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
            lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        ),
        (
            {
                'optimizer__name': 'sgd',
                'schedule__name': 'step',
                'schedule__decay_epochs': 2.0,
                'schedule__decay_rate': 0.3,
            },
            lambda p: torch.optim.SGD(p, 0.1),
            lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.3),
        ),
    ],
)
def test_matches_torch(changes, make, make_schedule):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal((3, 4)), rng.standard_normal(4)]
    gradients = [(rng.standard_normal((3, 4)), rng.standard_normal(4)) for _ in range(STEPS)]
    got = ours(config(optimizer__learning_rate=0.1, **changes), start, gradients)
    expected = theirs(make, make_schedule, start, gradients)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_clipping_matches_torch():
    rng = np.random.default_rng(0)
    start = [rng.standard_normal((3, 4)), rng.standard_normal(4)]
    gradients = [(5 * rng.standard_normal((3, 4)), rng.standard_normal(4)) for _ in range(4)]
    got = ours(
        config(optimizer__learning_rate=0.1, optimizer__name='sgd', optimizer__clip_norm=1.0),
        start,
        gradients,
    )
    expected = theirs(lambda p: torch.optim.SGD(p, 0.1), None, start, gradients, clip=1.0)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)  # torch divides by norm + 1e-6


def test_only_kernels_decay_when_asked():
    start = [np.ones((3, 4)), np.ones(4)]
    still = [(np.zeros((3, 4)), np.zeros(4))]
    made = config(
        optimizer__name='adamw',
        optimizer__weight_decay=0.1,
        optimizer__decay='kernels',
        optimizer__learning_rate=0.5,
    )
    kernel, bias = ours(made, start, still)
    np.testing.assert_allclose(kernel, 0.95)
    np.testing.assert_array_equal(bias, 1)


def test_parameters_without_a_gradient_do_not_decay():
    rule = optim.create(
        config(optimizer__name='adamw', optimizer__weight_decay=0.1),
        steps_per_epoch=1,
        fixed=frozenset({'query'}),
    )
    params = {'query': jnp.ones((2, 2)), 'value': jnp.ones((2, 2))}
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    assert not updates['query'].any()
    assert updates['value'].all()


def rates(**changes):
    return optim.rates(config(optimizer__learning_rate=1.0, **changes), steps_per_epoch=STEPS_PER_EPOCH)


@pytest.mark.parametrize('name', ['constant', 'cosine', 'step', 'exponential', 'one_cycle'])
@pytest.mark.parametrize('unit', ['epoch', 'step'])
@pytest.mark.parametrize('accumulate', [1, 2])
def test_the_rates_of_a_run_are_those_of_each_step(name, unit, accumulate):
    changes = {'schedule__name': name, 'schedule__unit': unit, 'optimizer__accumulate': accumulate}
    of_step = optim.rate_of_step(
        config(optimizer__learning_rate=1.0, **changes), steps_per_epoch=STEPS_PER_EPOCH
    )
    np.testing.assert_allclose(rates(**changes), [of_step(step) for step in range(STEPS)], atol=1e-6)


def test_a_constant_rate_is_reported_as_it_was_given():
    made = config(optimizer__learning_rate=0.1)
    assert set(optim.rates(made, steps_per_epoch=STEPS_PER_EPOCH)) == {0.1}


def test_a_rate_by_epoch_is_constant_within_it_and_by_step_is_not():
    by_epoch = rates(schedule__name='cosine').reshape(-1, STEPS_PER_EPOCH)
    assert (by_epoch == by_epoch[:, :1]).all()
    np.testing.assert_allclose(by_epoch[:, 0], 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4)), atol=1e-6)
    by_step = rates(schedule__name='cosine', schedule__unit='step')
    np.testing.assert_allclose(by_step, 0.5 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)), atol=1e-6)


def test_warm_up_rises_step_by_step_to_the_peak():
    got = rates(schedule__name='cosine', schedule__warmup_epochs=2.0)
    np.testing.assert_allclose(got[:7], [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1], atol=1e-6)
    assert got[-1] < 1


def test_one_cycle_rises_and_falls():
    got = rates(schedule__name='one_cycle', schedule__unit='step', schedule__peak=0.25)
    assert got.argmax() == 3
    assert got[0] == pytest.approx(1 / 25)
    assert got[-1] < got[0]
