"""VGG16's initial values."""

import jax
import numpy as np
from flax import nnx

import flaxnets
from flaxnets.models import vgg


def deviation(values):
    return float(np.std(np.asarray(values)))


def test_initial_values_are_torchvisions():
    """Convolutions by fan-out; a linear layer of the published size 0.01; biases 0."""
    conv = vgg.convolution(64, 128, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(deviation(conv.kernel[...]), (2 / (9 * 128)) ** 0.5, rtol=0.02)
    full = vgg.linear(4096, 64, 4096, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(deviation(full.kernel[...]), 0.01, rtol=0.02)
    assert not np.any(conv.bias[...])
    assert not np.any(full.bias[...])


def test_a_narrow_network_keeps_the_signal():
    """The linear layers of a narrow network change the size of their inputs as the full ones do."""
    x = jax.random.normal(jax.random.key(0), (256, 4096))
    narrow, full = (vgg.linear(n, 256, 4096, rngs=nnx.Rngs(0)) for n in (64, 4096))
    np.testing.assert_allclose(deviation(narrow(x[:, :64])), deviation(full(x)), rtol=0.1)


def test_gradients_reach_the_first_convolution():
    """As large as the last linear layer's, at the widths of the shipped `digits` config."""
    options = {'widths': (8, 16, 32, 32, 32), 'hidden': (64, 64), 'pooled': 1, 'num_classes': 10}
    model = flaxnets.create_model('vgg16', **options, dropout=(0.0, 0.0), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    gradient = nnx.jit(nnx.grad(lambda model: model(x)[:, 0].mean()))(model)
    first = np.abs(np.asarray(gradient.stages[0][0].kernel[...]))
    assert np.median(first) > 1e-5
