"""oneDNN's convolution is XLA's, and no program calls it unasked."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets.layers import onednn
from flaxnets.layers.conv import Conv
from train.distributed.convolutions import not_kept

CONSTRAINTS = pathlib.Path(__file__).parents[3] / 'constraints.txt'
needed = pytest.mark.skipif(not onednn.available(), reason='this jaxlib or machine has no tested oneDNN')


@pytest.fixture(autouse=True)
def nothing_is_stored():
    """JAX cannot store these programs."""
    with not_kept():
        yield


def scores(conv, images, fast):
    """The sum of cubes and its gradients."""

    def score(conv, images):
        if not fast:
            return (conv(images) ** 3).sum()
        with onednn.used():
            return (conv(images) ** 3).sum()

    return jax.tree.leaves(nnx.jit(nnx.value_and_grad(score, argnums=(0, 1)))(conv, images))


def test_the_pinned_jaxlib_is_a_tested_one():
    (version,) = re.findall(r'^jaxlib==(\S+)', CONSTRAINTS.read_text(), re.MULTILINE)
    assert version in onednn.JAXLIB


@needed
@pytest.mark.parametrize('size', [(3, 3), (5, 6), (32, 17)])
@pytest.mark.parametrize(
    ('channels', 'strides', 'padding'),
    [
        *(((width, out), 1, 'SAME') for width, out in [(1, 8), (3, 4), (16, 16), (5, 70)]),
        *(((3, 4), *border) for border in [(1, 'VALID'), (2, 'VALID'), (2, 1)]),
    ],
)
@pytest.mark.parametrize('side', [3, 5])
def test_it_computes_what_xla_computes(size, channels, side, strides, padding):
    if side > min(size):
        size = (side, side + 1)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, *size, channels[0])), jnp.float32)
    conv = Conv(*channels, side, strides=strides, padding=padding, rngs=nnx.Rngs(0))
    for ours, xlas in zip(scores(conv, images, True), scores(conv, images, False), strict=True):
        np.testing.assert_allclose(ours, xlas, rtol=1e-4, atol=1e-4 * float(jnp.abs(xlas).max()))


@needed
def test_it_is_used_where_it_is_asked_for():
    images = jnp.ones((2, 6, 6, 3))

    def calls(conv, images, fast):
        def score(images):
            return conv(images).sum()

        if not fast:
            return str(jax.make_jaxpr(jax.grad(score))(images)).count('target_name=__onednn$convolution')
        with onednn.used():
            return str(jax.make_jaxpr(jax.grad(score))(images)).count('target_name=__onednn$convolution')

    conv = Conv(3, 4, rngs=nnx.Rngs(0))
    assert [calls(conv, images, fast) for fast in (False, True, False)] == [0, 2, 0]
    assert calls(Conv(3, 4, rngs=nnx.Rngs(0), padding='VALID'), images, True) == 2
    assert calls(Conv(3, 4, rngs=nnx.Rngs(0), padding=1, strides=2), images, True) == 1  # not backward
    # not for other types, uneven borders, or images that one product suits
    others = {'dtype': jnp.bfloat16}, {'strides': 2}
    assert not any(calls(Conv(3, 4, rngs=nnx.Rngs(0), **one), images, True) for one in others)
    assert not calls(conv, images[:, :2, :2], True)


@needed
def test_under_vmap():
    kernels = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 3, 4)), jnp.float32)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 6, 6, 3)), jnp.float32)
    together = jax.jit(jax.vmap(onednn.convolution))(images, kernels)
    for one, image, kernel in zip(together, images, kernels, strict=True):
        np.testing.assert_array_equal(one, jax.jit(onednn.convolution)(image, kernel))
