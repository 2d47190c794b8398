"""Batch normalisation: its written-out gradient is what JAX derives, with padding and over devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets.layers import batch
from flaxnets.layers.norm import BatchNorm


def derived(x, scale, bias, weight, count):
    """Batch normalisation as its definition says, for JAX to differentiate."""
    weight = weight.reshape(-1, *[1] * (x.ndim - 1))
    axes = tuple(range(x.ndim - 1))
    mean = jnp.sum(x * weight, axes) / count
    var = jnp.sum((x - mean) ** 2 * weight, axes) / count
    return scale * (x - mean) / jnp.sqrt(var + 1e-5) + bias


def gradients(function, *arrays):
    """Of a sum in which every output has its own weight, with respect to all arrays."""

    def total(arrays):
        y = function(*arrays)
        return jnp.sum(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape) * y**2)

    return jax.grad(total)(arrays)


@pytest.fixture
def arrays():
    """Images, scale and bias in float64, which stays on for the test."""
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        yield tuple(jnp.asarray(random.normal(size=size)) for size in ((6, 4, 3, 5), (5,), (5,)))


def layer(scale, bias) -> BatchNorm:
    norm = BatchNorm(5, param_dtype=jnp.float64)
    norm.scale[...], norm.bias[...] = scale, bias
    return norm


@pytest.mark.parametrize('flat', [False, True])
@pytest.mark.parametrize('padded', [False, True])
def test_gradient_is_the_derived_one(arrays, flat, padded):
    x, scale, bias = arrays
    x = x[:, 0, 0] if flat else x
    mask = jnp.asarray([1, 1, 0, 1, 1, 0] if padded else [1] * 6)
    count = mask.sum() * (1 if flat else 12)

    def ours(x, scale, bias):
        with batch.scope(mask=mask if padded else None):
            return layer(scale, bias)(x)

    def theirs(x, scale, bias):
        return derived(x, scale, bias, mask.astype(x.dtype), count)

    chex.assert_trees_all_close(ours(x, scale, bias), theirs(x, scale, bias), rtol=1e-12)
    chex.assert_trees_all_close(
        gradients(ours, x, scale, bias), gradients(theirs, x, scale, bias), atol=1e-12
    )


def test_shards_have_the_gradient_of_the_whole_batch(arrays):
    x, scale, bias = arrays
    mask = jnp.asarray([1, 1, 1, 1, 1, 0])

    def whole(x, scale, bias):
        with batch.scope(mask=mask):
            return layer(scale, bias)(x)

    def sharded(x, scale, bias):
        def shard(x, mask):
            with batch.scope(mask=mask, axis_name='data'):
                return layer(scale, bias)(x)

        parts = (values.reshape(2, 3, *values.shape[1:]) for values in (x, mask))
        return jax.vmap(shard, axis_name='data')(*parts).reshape(x.shape)

    chex.assert_trees_all_close(
        gradients(sharded, x, scale, bias), gradients(whole, x, scale, bias), atol=1e-12
    )


def test_bfloat16_images_have_float32_statistics():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 0.01, (64, 8, 8, 5)), jnp.bfloat16)
    norm = BatchNorm(5, dtype=jnp.bfloat16)

    def total(norm, x):
        return jnp.sum(jnp.square(norm(x)).astype(jnp.float32))

    of_norm, of_x = nnx.grad(total, argnums=(0, 1))(norm, x)
    assert norm(x).dtype == of_x.dtype == jnp.bfloat16
    assert of_norm.scale.dtype == norm.var.dtype == jnp.float32
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(norm.mean, 0.19 * exact.mean((0, 1, 2)), rtol=1e-5)
