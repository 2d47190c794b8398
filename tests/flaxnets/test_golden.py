"""Every architecture against independent PyTorch models, number by number, in float64."""

from collections.abc import Iterable

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from golden_case import NAMES, Case, loss, summary

import flaxnets
from flaxnets import interop, registry

# Under these weights its loss explodes, and rounding with it: three steps are compared.
STEPS = {'mnist_cnn_residual': 3}
TOLERANCE = 1e-9
# A bias before batch normalisation has no effect, so its gradient is rounding, 1e-15, in PyTorch and
# here. Adam divides it by its epsilon, 1e-8, and the golden parameters contain the result.
ADAM_ON_ROUNDING = {'expert_cnn': 1e-8}


def close(actual, expected, message: str, tolerance: float = TOLERANCE) -> None:
    """Equal to the tolerance, relative to the largest of the numbers that belong together."""
    expected = np.asarray(expected, float)
    scale = np.max(np.abs(expected), initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(scale, 1e-3), err_msg=message)


def summaries(model: nnx.Module, expected: dict, message: str, tolerance: float = TOLERANCE) -> None:
    """The model's values against summaries in PyTorch's names and layout."""
    values = interop.to_torch(model, unused=False)
    for name, numbers in expected.items():
        if name in values:
            close(summary(values[name]), numbers or [0, 0, 0], f'{message} {name}', tolerance)


@pytest.mark.parametrize('name', NAMES)
def test_golden(name):
    with jax.enable_x64(True):
        run(name, Case(name))


def run(name: str, case: Case) -> None:
    model = case.model()
    optimizer = case.optimizer()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    state = optimizer.init(params)

    def forward(params, rest, images, pools, training):
        model = nnx.merge(graph, params, rest, copy=True)
        model.train() if training else model.eval()
        logits = model(images, candidates=pools) if pools else model(images)
        return logits, nnx.state(model, nnx.Not(nnx.Param))

    @jax.jit
    def step(params, rest, state, images, labels, pools):
        def objective(params):
            logits, new = forward(params, rest, images, pools, True)
            return loss(case, logits, labels), (logits, new)

        (value, (logits, new)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), new, state, value, logits, gradient

    *batches, evaluation = case.batches()
    compared = STEPS.get(name, len(batches))
    for i, batch in enumerate(batches[:compared]):
        expected = case.data['steps'][i]
        new, rest, state, value, logits, gradient = step(params, rest, state, *batch)
        close(logits, expected['logits'], f'step {i} logits')
        close(value, expected['loss'], f'step {i} loss')
        if i == 0:
            summaries(nnx.merge(graph, gradient, rest, copy=True), expected['gradient_summary'], 'gradient')
        params = new
    if compared < len(batches):
        return

    trained = nnx.merge(graph, params, rest, copy=True)
    tolerance = ADAM_ON_ROUNDING.get(name, TOLERANCE)
    summaries(trained, case.data['parameter_summary_after'], 'after', tolerance)
    summaries(trained, case.data['running_statistics_after'] or {}, 'statistics', tolerance)
    images, _, pools = evaluation
    logits, _ = jax.jit(forward, static_argnums=4)(params, rest, images, pools, False)
    close(logits, case.data['evaluation']['logits'], 'evaluation logits')


@pytest.mark.parametrize('name', NAMES)
def test_published_keys(name):
    """The published checkpoint's keys, but for those ignored by name, are the ones written."""
    case = Case(name)
    options = {'num_classes': case.classes, 'image_shape': case.image_shape, **case.data['options']}
    model = nnx.eval_shape(lambda: flaxnets.create_model(case.name, rngs=nnx.Rngs(0), **options))
    ours = {key for row in registry.torch_rows(model) for key in row.torch}
    assert parameters(ours) == {key for key, _ in case.data['parameters']} - case.unused
    assert parameters(registry.ignored_keys(model)) == case.unused


def parameters(keys: Iterable[str]) -> set[str]:
    """Those that are no buffers."""
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    return {key for key in keys if not key.endswith(buffers)}
