"""Products of matrices: oneDNN's are XLA's, forward and backward, and no program calls it unasked."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.layers import onednn
from flaxnets.layers.product import across, matmul, product
from train.distributed.convolutions import not_kept

needed = pytest.mark.skipif(not onednn.available(), reason='this jaxlib or machine has no tested oneDNN')


@pytest.fixture(autouse=True)
def nothing_is_stored():
    """JAX cannot store these programs."""
    with not_kept():
        yield


def values(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def with_gradients(left, right, transposed, fast):
    def score(left, right):
        y = matmul(left, right, transposed)
        return (y**2).sum(), y

    def traced(left, right):
        if not fast:
            return jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(left, right)
        with onednn.used():
            return jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(left, right)

    return jax.tree.leaves(jax.jit(traced)(left, right)), str(jax.make_jaxpr(traced)(left, right))


@needed
@pytest.mark.parametrize('transposed', [*itertools.product((False, True), repeat=2)])
@pytest.mark.parametrize('sizes', [(1, 1, 1), (7, 5, 3), (64, 1, 48), (33, 70, 16)])
@pytest.mark.parametrize('batch', [(), (1,), (6,), (2, 3)])
def test_onednn_computes_what_xla_computes(monkeypatch, transposed, sizes, batch):
    monkeypatch.setattr(onednn, 'has_avx512', lambda: True)  # single products too
    rows, inner, columns = sizes
    left = values(*batch, *((inner, rows) if transposed[0] else (rows, inner)))
    right = values(*batch, *((columns, inner) if transposed[1] else (inner, columns)))
    ours, program = with_gradients(left, right, transposed, True)
    xlas, plain = with_gradients(left, right, transposed, False)
    assert (program.count(onednn.PRODUCT), plain.count(onednn.PRODUCT)) == (3, 0)
    for one, other in zip(ours, xlas, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


@needed
def test_where_it_is_used(monkeypatch):
    """Of single products on processors with AVX-512 alone; of float32; of stacks that belong together."""

    def used(left, right):
        with onednn.used():
            return onednn.multiplies(left, right)

    single, stack = values(4, 4), values(3, 4, 4)
    for wide in (False, True):
        monkeypatch.setattr(onednn, 'has_avx512', lambda wide=wide: wide)
        assert (used(single, single), used(stack, stack)) == (wide, True)
        assert not onednn.multiplies(stack, stack)  # nobody said so
        assert not used(stack, single)
        assert not used(stack.astype(jnp.bfloat16), stack.astype(jnp.bfloat16))
        assert not used(values(3, 0, 4), stack)


@needed
def test_under_vmap(monkeypatch):
    monkeypatch.setattr(onednn, 'has_avx512', lambda: True)
    left, right = values(2, 5, 4), values(2, 4, 3)

    def multiplied(left, right):
        with onednn.used():
            return matmul(left, right)

    np.testing.assert_allclose(jax.jit(jax.vmap(multiplied))(left, right), left @ right, rtol=1e-6)


@pytest.mark.parametrize('shape', [(6,), (4, 6), (2, 3, 4, 6)])
def test_product_is_over_the_last_axis(shape):
    rows, matrix = values(*shape), values(6, 5)
    np.testing.assert_allclose(product(rows, matrix), rows @ matrix, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('fast', [False, pytest.param(True, marks=needed)])
@pytest.mark.parametrize('sizes', [(1, 1, 1, 1), (5, 6, 4, 3), (8, 64, 64, 16), (3, 16, 70, 12)])
def test_across_combines_each_images_tokens(monkeypatch, fast, sizes):
    monkeypatch.setattr(onednn, 'has_avx512', lambda: True)
    batch, tokens, out, features = sizes
    x, matrix, gradient = values(batch, tokens, features), values(tokens, out), values(batch, out, features)

    def traced(x, matrix):
        with onednn.used() if fast else contextlib.nullcontext():
            y, back = jax.vjp(across, x, matrix)
            return y, *back(gradient)

    ours = jax.jit(traced)(x, matrix)
    assert str(jax.make_jaxpr(traced)(x, matrix)).count(onednn.PRODUCT) == 3 * fast
    y, back = jax.vjp(lambda x, matrix: jnp.einsum('btf,ts->bsf', x, matrix, precision='highest'), x, matrix)
    for one, other in zip(ours, (y, *back(gradient)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))
