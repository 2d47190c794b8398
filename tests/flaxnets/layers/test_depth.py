"""Blocks in one loop compute what they compute one after the other, and keep less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxnets
from flaxnets.layers import depth


def model(layer: str, blocks: int = 2) -> nnx.Module:
    options = {'image_shape': (8, 8, 3), 'patch_size': 2, 'width': 12, 'mlp_width': 24, 'heads': 3}
    nearest = {'num_neighbors': 3} if layer != 'attention' else {}
    return flaxnets.create_model(
        'vit_tiny', layer=layer, blocks=blocks, dropout=0.3, **options, **nearest, rngs=nnx.Rngs(0)
    )


def loss(made: nnx.Module):
    made.train()
    graph, state = nnx.split(made)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))

    def of(state):
        return jnp.sum(nnx.merge(graph, state)(images, rngs=nnx.Rngs(5)) ** 2)

    return of, state


@pytest.mark.parametrize('layer', ['convnn_attention', 'knn_attention'])
def test_the_loop_computes_the_same_with_the_same_draws(layer):
    with jax.enable_x64(True):
        of, state = loss(model(layer))
        state = jax.tree.map(lambda x: x.astype('float64'), state)
        looped = jax.jit(jax.value_and_grad(of))(state)
        with depth.written_out():
            written = jax.jit(jax.value_and_grad(functools.partial(of)))(state)  # traced again
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), looped, written)


def test_the_loop_keeps_less():
    def size(made):
        of, state = loss(made)
        backward = jax.eval_shape(lambda state: jax.vjp(of, state)[1], state)
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    looped = size(model('convnn_attention'))
    with depth.written_out():
        assert looped < 0.6 * size(model('convnn_attention'))


def test_blocks_that_differ_are_called_one_by_one():
    made = model('attention', blocks=2)
    images = jnp.ones((1, 8, 8, 3))
    made.eval()
    expected = made(images)
    made.blocks[1].dropout.rate = 0.5  # no effect in evaluation
    np.testing.assert_allclose(made(images), expected, rtol=1e-5, atol=1e-6)


def test_no_block_at_all():
    assert model('attention', blocks=0)(jnp.ones((1, 8, 8, 3))).shape == (1, 10)


def test_dropout_draws_once_for_both_passes():
    of, state = loss(model('convnn_attention'))
    forward, both = (str(jax.make_jaxpr(function)(state)) for function in (of, jax.grad(of)))
    assert 0 < forward.count('threefry2x32') == both.count('threefry2x32')
