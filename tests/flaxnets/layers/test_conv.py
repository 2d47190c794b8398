"""The convolution is the same one, however it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets.layers import conv as layer
from flaxnets.layers.conv import Conv


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 2), (1, 5), (2, 3), (4, 2), (3, 3), (5, 6)])
@pytest.mark.parametrize(('kernel_size', 'padding'), [(1, 0), (3, 'SAME'), (3, 1), (5, 'SAME'), (7, 3)])
@pytest.mark.parametrize('large', [2**26, 0])
def test_every_way_computes_the_same(height, width, kernel_size, padding, large, monkeypatch):
    monkeypatch.setattr(layer, 'LARGE', large)
    with jax.enable_x64(True):
        types = {'param_dtype': jnp.float64, 'rngs': nnx.Rngs(0)}
        conv = Conv(3, 4, kernel_size, padding=padding, **types)
        images = jnp.asarray(np.random.default_rng(0).normal(size=(2, height, width, 3)))

        def plain(conv, images):
            return nnx.Conv.__call__(conv, images)

        def scores(function):
            return nnx.value_and_grad(
                lambda conv, images: (function(conv, images) ** 3).sum(), argnums=(0, 1)
            )

        found, expected = (jax.tree.leaves(scores(f)(conv, images)) for f in (Conv.__call__, plain))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_kernels_gradient_of_a_large_output_adds_up_over_devices(monkeypatch):
    monkeypatch.setattr(layer, 'LARGE', 0)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ('batch',))
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(np.float32)
    conv = Conv(3, 4, rngs=nnx.Rngs(0))
    gradient = nnx.jit(nnx.grad(lambda conv, images: (conv(images) ** 2).sum()))
    divided = jax.device_put(images, jax.NamedSharding(mesh, jax.P('batch')))
    for ours, theirs in zip(*(jax.tree.leaves(gradient(conv, x)) for x in (divided, images)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('side', 'convolutions'), [(1, 0), (2, 0), (3, 1)])
def test_a_kernel_larger_than_the_image_is_a_product(side, convolutions):
    conv = Conv(3, 4, rngs=nnx.Rngs(0))
    program = str(jax.make_jaxpr(conv)(jnp.ones((1, side, side, 3))))
    assert program.count('conv_general_dilated[') == convolutions
