"""The attention layer against a plain statement of it in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers.attention import AttentionLayer, AttentionOptions, TokenAttention


def statement(layer, x):
    """Attention on one image's tokens [T, E], head by head and token by token."""
    features, heads = x.shape[1], layer.num_heads
    size = features // heads
    qkv = x @ np.asarray(layer.qkv.kernel[...]) + np.asarray(layer.qkv.bias[...])
    out = np.zeros_like(x)
    for head in range(heads):
        q, k, v = (qkv[:, part * features + head * size :][:, :size] for part in range(3))
        for t in range(len(x)):
            weights = np.exp([q[t] @ k[n] / size**0.5 for n in range(len(x))])
            out[t, head * size : (head + 1) * size] = weights / weights.sum() @ v
    return out @ np.asarray(layer.out.kernel[...]) + np.asarray(layer.out.bias[...])


@pytest.mark.parametrize('heads', [1, 2, 4])
def test_statement(heads):
    with jax.enable_x64(True):
        layer = TokenAttention(8, heads, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        x = np.random.default_rng(0).standard_normal((2, 6, 8))
        actual = nnx.jit(lambda layer, x: layer(x))(layer, jnp.asarray(x))
        np.testing.assert_allclose(actual, [statement(layer, one) for one in x], rtol=1e-9, atol=1e-12)


def test_initial_values_are_those_of_pytorchs_multihead_attention():
    layer = TokenAttention(64, rngs=nnx.Rngs(0))
    kernel, bound = np.asarray(layer.qkv.kernel[...]), (6 / (64 + 3 * 64)) ** 0.5
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert 0.99 / 8 < np.abs(np.asarray(layer.out.kernel[...])).max() <= 1 / 8
    assert not np.any(layer.qkv.bias[...])
    assert not np.any(layer.out.bias[...])


@pytest.mark.parametrize(
    ('options', 'out'),
    [
        ({}, (4, 6, 5)),
        ({'shuffle': 'before'}, (2, 3, 5)),
        ({'shuffle': 'after'}, (8, 12, 5)),
        ({'shuffle': 'none', 'location_channels': True, 'num_heads': 7}, (4, 6, 5)),
    ],
)
def test_image_sizes(options, out):
    layer = nnx.eval_shape(
        lambda: AttentionLayer(3, 5, (4, 6), AttentionOptions(**options), rngs=nnx.Rngs(0))
    )
    assert layer.out_size == out[:2]
    x = jax.ShapeDtypeStruct((2, 4, 6, 3), jnp.float32)
    assert nnx.eval_shape(lambda layer, x: layer(x), layer, x).shape == (2, *out)


def test_heads_that_do_not_divide():
    with pytest.raises(UserError, match=r'model\.num_heads: expected a divisor of the 20 features .* got 3'):
        AttentionLayer(3, 5, (4, 6), AttentionOptions(num_heads=3), rngs=nnx.Rngs(0))
