import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers.expert import ExpertLayer, ExpertOptions, Gate


def test_weights_are_a_distribution_for_each_image():
    gate = Gate(8, ExpertOptions(reduction=2), rngs=nnx.Rngs(0))
    weights = gate(jax.random.normal(jax.random.key(0), (5, 4, 6, 8)))
    assert weights.shape == (5, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert float(jnp.std(weights, axis=0).min()) > 0


def test_the_layer_is_the_weighted_sum_of_its_branches():
    """Written out branch by branch, from slices of the joint values."""
    layer = ExpertLayer(8, 4, ExpertOptions(kernel_size=5), rngs=nnx.Rngs(0))
    layer.norm.mean[...] = jnp.linspace(-1, 1, 12)
    layer.norm.var[...] = jnp.linspace(0.5, 2, 12)
    layer.eval()
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 8))
    weights = layer.gate(x)
    expected = jnp.zeros((2, 6, 7, 4))
    for k in range(3):
        own = slice(4 * k, 4 * (k + 1))
        branch = jax.lax.conv_general_dilated(
            x, layer.conv.kernel[..., own], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        branch = branch + layer.conv.bias[own] - layer.norm.mean[own]
        branch = jax.nn.relu(branch / jnp.sqrt(layer.norm.var[own] + 1e-5))
        expected += weights[:, k, None, None, None] * branch
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('options', [{'kernel_size': 2}, {'reduction': 9}, {'experts': 0}])
def test_impossible_options(options):
    with pytest.raises(UserError, match=f'^model.{next(iter(options))}: expected'):
        ExpertLayer(8, 4, ExpertOptions(**options), rngs=nnx.Rngs(0))
