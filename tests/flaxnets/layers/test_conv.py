"""The convolution is the same one, however it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets.layers import batch
from flaxnets.layers import conv as layer
from flaxnets.layers.conv import Conv


@pytest.fixture(params=['whole', 'an image at a time', 'divided'])
def how(request, monkeypatch):
    """How a batch is computed, as far as it matters for the kernel's gradient."""
    if request.param == 'an image at a time':
        monkeypatch.setattr(layer, 'CACHED', 1)
    with batch.scope(divided=request.param == 'divided'):
        yield request.param


def check(conv, images):
    """Its output's cubes and their gradients are those of Flax's convolution."""

    def scores(function):
        score = lambda conv, images: (function(conv, images) ** 3).sum()  # noqa: E731
        return jax.tree.leaves(nnx.value_and_grad(score, argnums=(0, 1))(conv, images))

    for ours, theirs in zip(scores(Conv.__call__), scores(nnx.Conv.__call__), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 2), (1, 5), (2, 3), (4, 2), (3, 3), (5, 6)])
@pytest.mark.parametrize(('kernel_size', 'padding'), [(1, 0), (3, 'SAME'), (3, 1), (5, 'SAME'), (7, 3)])
def test_every_way_computes_the_same(height, width, kernel_size, padding, how):
    with jax.enable_x64(True):
        conv = Conv(3, 4, kernel_size, padding=padding, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        check(conv, jnp.asarray(np.random.default_rng(0).normal(size=(2, height, width, 3))))


@pytest.mark.parametrize('channels', [(3, 4), (4, 3)])
@pytest.mark.parametrize(
    ('kernel_size', 'strides', 'padding'),
    [(5, 1, 'VALID'), (5, 2, 'VALID'), (3, 2, 1), (7, 2, 3), (3, 1, 2), (3, 1, 4), (4, 4, 0), (2, 1, 0)],
)
def test_with_other_borders_and_strides(channels, kernel_size, strides, padding, how):
    with jax.enable_x64(True):
        types = {'param_dtype': jnp.float64, 'rngs': nnx.Rngs(0)}
        conv = Conv(*channels, kernel_size, strides=strides, padding=padding, **types)
        check(conv, jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, channels[0]))))


@pytest.mark.parametrize(
    ('kernel_size', 'strides', 'padding', 'divided'),
    [(3, 2, 'SAME', False), (2, 1, 'SAME', False), (3, 1, 'SAME', True), (3, 1, 'SAME', False)],
)
def test_uneven_borders_and_divided_batches_are_left_to_xla(kernel_size, strides, padding, divided):
    conv = Conv(3, 4, kernel_size, strides=strides, padding=padding, rngs=nnx.Rngs(0))
    with batch.scope(divided=divided):
        program = str(jax.make_jaxpr(conv)(jnp.ones((1, 6, 6, 3))))
    ours = (kernel_size, strides, divided) == (3, 1, False)
    assert ('custom_vjp' in program) == ours


def test_the_kernels_gradient_is_summed_in_float32(monkeypatch):
    """Summed in bfloat16, one image after the other, 256 equal parts would end at about half the sum."""
    monkeypatch.setattr(layer, 'CACHED', 1)
    conv = Conv(1, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    images = jnp.ones((1024, 3, 3, 1), jnp.bfloat16)
    gradient = nnx.grad(lambda conv: conv(images).astype(jnp.float32).sum())(conv)
    assert gradient.kernel[1, 1, 0, 0] == 1024 * 9


@pytest.mark.parametrize('divided', [False, True])
def test_the_kernels_gradient_adds_up_over_devices(divided):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ('batch',))
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(np.float32)
    conv = Conv(3, 4, rngs=nnx.Rngs(0))

    @nnx.jit
    def gradient(conv, images):
        with batch.scope(divided=divided):
            return nnx.grad(lambda conv, images: (conv(images) ** 2).sum())(conv, images)

    shared = jax.device_put(images, jax.NamedSharding(mesh, jax.P('batch')))
    for ours, theirs in zip(*(jax.tree.leaves(gradient(conv, x)) for x in (shared, images)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('side', 'convolutions'), [(1, 0), (2, 0), (3, 1)])
def test_a_kernel_larger_than_the_image_is_a_product(side, convolutions):
    conv = Conv(3, 4, rngs=nnx.Rngs(0))
    program = str(jax.make_jaxpr(conv)(jnp.ones((1, side, side, 3))))
    assert program.count('conv_general_dilated[') == convolutions
