"""What a model computes, in a few numbers: a record with other numbers was made by another version of it.

As in `tests/golden`, values and images are drawn with fixed seeds, so the numbers depend on the code alone.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import flaxnets
from flaxnets import interop, registry
from flaxnets.interop import conversion

# float64 on two machines differs in the last digits; another formula differs in the first ones.
TOLERANCE = 1e-6


def numbers(
    name: str, options: Mapping[str, Any], *, num_classes: int, image_shape: tuple[int, ...]
) -> dict[str, list[float]]:
    """Summaries of logits in evaluation, and of loss and gradients in training, without dropout."""
    with jax.enable_x64(True):
        given = {'num_classes': num_classes, 'image_shape': image_shape} | dict(options)
        types: dict[str, Any] = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
        # Abstract: every value is replaced, and computing initial ones takes seconds.
        model = nnx.eval_shape(lambda: flaxnets.create_model(name, **given, **types, rngs=nnx.Rngs(0)))
        shapes = conversion.expected_shapes(model, registry.torch_rows(model))
        interop.from_torch(model, {key: value(key, shaped[0]) for key, shaped in shapes.items()})
        graph, *states = nnx.split(model, nnx.Param, ...)
        params, rest = states
        random = np.random.default_rng(20)
        images = jnp.asarray(random.standard_normal((2, *image_shape)))
        labels = random.integers(0, num_classes, 2)

        def logits(params: Any, training: bool) -> jax.Array:
            model = nnx.merge(graph, params, rest, copy=True)
            model.train() if training else model.eval()
            if training:
                model.set_attributes(deterministic=True, raise_if_not_found=False)
            return model(images, rngs=nnx.Rngs(candidates=0))

        def loss(params: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(logits(params, True), labels).mean()

        @jax.jit
        def compute(params: Any) -> dict[str, Any]:
            value, gradients = jax.value_and_grad(loss)(params)
            return {
                'logits': summary(logits(params, False)),
                'loss': value[None],
                'gradient': optax.tree.norm(gradients)[None],
            }

        return {key: np.asarray(array).tolist() for key, array in compute(params).items()}


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A value for the parameter or statistic `name`: drawn with its name as seed, as large as initial
    values."""
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if name.endswith(('running_mean', 'running_var')):
        return np.full(shape, float(name.endswith('var')))
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        return values / np.sqrt(np.prod(shape[1:]))
    return 0.05 * values + (1.0 if re.search(r'(bn\d?|norm\d?)\.weight$', name) else 0.0)


def summary(values: jax.Array) -> jax.Array:
    """Sum, norm, and a projection, which every permutation changes."""
    direction = np.random.default_rng(7).standard_normal(values.size)
    return jnp.stack([values.sum(), jnp.linalg.norm(values.ravel()), values.ravel() @ direction])


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of numbers are of the same model."""
    if set(one) != set(other) or any(len(one[key]) != len(other[key]) for key in one):
        return False
    return all(np.allclose(one[key], other[key], rtol=TOLERANCE, atol=TOLERANCE) for key in one)
