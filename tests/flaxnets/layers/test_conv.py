"""The convolution is the same one, however it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets.layers.conv import Conv


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 2), (1, 5), (2, 3), (4, 2), (3, 3), (5, 6)])
@pytest.mark.parametrize(('kernel_size', 'padding'), [(1, 0), (3, 'SAME'), (3, 1), (5, 'SAME'), (7, 3)])
def test_small_images(height, width, kernel_size, padding):
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


@pytest.mark.parametrize(('side', 'convolutions'), [(1, 0), (2, 0), (3, 1)])
def test_a_kernel_larger_than_the_image_is_a_product(side, convolutions):
    conv = Conv(3, 4, rngs=nnx.Rngs(0))
    program = str(jax.make_jaxpr(conv)(jnp.ones((1, side, side, 3))))
    assert program.count('conv_general_dilated[') == convolutions
