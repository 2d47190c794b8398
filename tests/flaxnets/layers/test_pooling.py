import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.layers.pooling import adaptive_mean_pool, max_pool

torch = pytest.importorskip('torch')


def images(height, width):
    return jnp.asarray(np.random.default_rng(0).standard_normal((2, height, width, 3)), jnp.float32)


def nchw(x):
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy()).requires_grad_()


@pytest.mark.parametrize('shape', [(1, 1), (2, 3), (7, 7), (8, 13), (14, 5)])
def test_adaptive_mean_pool_is_torchs(shape):
    """Fewer pixels than bins, as many, more, and bins that overlap; the gradient too."""
    x = images(*shape)
    y, pullback = jax.vjp(lambda x: adaptive_mean_pool(x, 7), x)
    theirs = nchw(x)
    out = torch.nn.functional.adaptive_avg_pool2d(theirs, 7)
    np.testing.assert_allclose(jnp.moveaxis(y, -1, 1), out.detach(), rtol=1e-5, atol=1e-6)
    (out**2).sum().backward()
    np.testing.assert_allclose(jnp.moveaxis(pullback(2 * y)[0], -1, 1), theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('shape', 'size'), [((4, 6), 2), ((5, 7), 2), ((7, 6), 3)])
def test_max_pool_is_torchs(shape, size):
    """Incomplete windows are left out."""
    x = images(*shape)
    y, pullback = jax.vjp(lambda x: max_pool(x, size), x)
    theirs = nchw(x)
    out = torch.nn.functional.max_pool2d(theirs, size)
    np.testing.assert_array_equal(jnp.moveaxis(y, -1, 1), out.detach())
    out.sum().backward()
    np.testing.assert_array_equal(jnp.moveaxis(pullback(jnp.ones_like(y))[0], -1, 1), theirs.grad)


def test_of_equal_values_the_first_gets_the_gradient_as_in_torch():
    x = jnp.round(images(9, 8))
    y, pullback = jax.vjp(max_pool, x)
    theirs = nchw(x)
    out = torch.nn.functional.max_pool2d(theirs, 2)
    assert len(jnp.unique(x)) < 10  # so most windows have equal values
    (out * (out + 1)).sum().backward()
    np.testing.assert_array_equal(jnp.moveaxis(pullback(2 * y + 1)[0], -1, 1), theirs.grad)
