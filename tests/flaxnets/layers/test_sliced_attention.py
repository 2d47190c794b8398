import jax
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers.sliced_attention import SlicedAttention


def test_each_head_on_its_own_slice():
    """Head by head and image by image in numpy."""
    layer = SlicedAttention(6, 3, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 5, 6))
    expected = np.zeros(x.shape)
    for head in range(3):
        own = np.asarray(x)[..., 2 * head : 2 * head + 2]
        q, k, v = (
            own @ np.asarray(m.kernel[...])[head] + np.asarray(m.bias[...])[head]
            for m in (layer.query, layer.key, layer.value)
        )
        for i in range(2):
            weights = np.exp(q[i] @ k[i].T / np.sqrt(2))
            expected[i, :, 2 * head : 2 * head + 2] = weights / weights.sum(1, keepdims=True) @ v[i]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-6)


def test_heads_keep_to_themselves():
    """A change in one slice changes that slice alone."""
    layer = SlicedAttention(6, 3, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (1, 5, 6))
    change = np.asarray(layer(x.at[..., 2:4].add(1.0)) - layer(x))
    assert np.abs(change[..., 2:4]).max() > 1e-3
    np.testing.assert_array_equal(change[..., [0, 1, 4, 5]], 0)


def test_heads_that_do_not_divide():
    with pytest.raises(UserError, match=r'^model\.heads: expected a divisor of the width, 6, got 4$'):
        SlicedAttention(6, 4, rngs=nnx.Rngs(0))
