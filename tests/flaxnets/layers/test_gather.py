"""Sums over gathered rows, and their own gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.layers import batch, gather

BATCH, TOKENS, CANDIDATES, FEATURES, RANKS = 6, 10, 7, 5, 3


def arguments(out, weighted, dtype=jnp.float64):
    def values(seed, *shape):
        return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)

    chosen = np.random.default_rng(9).integers(CANDIDATES, size=(RANKS, BATCH, TOKENS))
    kernel = values(0, RANKS, FEATURES, out) if out else values(0, RANKS, FEATURES)
    first = values(1, BATCH, TOKENS, out or FEATURES)
    weights = values(2, RANKS, BATCH, TOKENS) if weighted else None
    return first, values(3, BATCH, CANDIDATES, FEATURES), kernel, jnp.asarray(chosen), weights


def plain(first, values, kernel, chosen, weights):
    """The definition, which JAX differentiates."""
    for j, (matrix, index) in enumerate(zip(kernel, chosen, strict=True)):
        found = jnp.stack([of_image[places] for of_image, places in zip(values, index, strict=True)])
        product = found * matrix if matrix.ndim == 1 else found @ matrix
        first = first + (product if weights is None else weights[j][..., None] * product)
    return first


def gradients(function, given):
    first, values, kernel, chosen, weights = given
    differentiable = (first, values, kernel) if weights is None else (first, values, kernel, weights)
    y, back = jax.vjp(lambda *x: function(*x[:3], chosen, *(x[3:] or [None])), *differentiable)
    return [y, *back(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))]


@pytest.mark.parametrize('images', [1, 2, 6])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('out', [0, 4], ids=['depthwise', 'matrices'])
def test_the_gradients_are_those_of_the_definition(monkeypatch, out, weighted, images):
    with jax.enable_x64(True):
        monkeypatch.setattr(gather, 'CACHED', images * 4 * CANDIDATES * RANKS * (out or FEATURES))
        given = arguments(out, weighted)
        for ours, theirs in zip(gradients(gather.add_products, given), gradients(plain, given), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_batch_that_is_divided_among_devices_is_not_taken_apart(monkeypatch):
    monkeypatch.setattr(gather, 'CACHED', 1)
    given = arguments(4, False, jnp.float32)

    def slices(divided):
        with batch.scope(divided=divided):
            return str(jax.make_jaxpr(lambda: gradients(gather.add_products, given))())

    assert f'f32[1,{CANDIDATES},{FEATURES}]' in slices(False)
    assert f'f32[1,{CANDIDATES},{FEATURES}]' not in slices(True)


def test_half_precision_adds_in_float32():
    given = arguments(4, True, jnp.bfloat16)
    ours = gradients(gather.add_products, given)
    assert {x.dtype for x in ours} == {jnp.dtype(jnp.bfloat16)}
    with jax.enable_x64(True):
        exact = gradients(plain, [x.astype(float) if x.dtype == jnp.bfloat16 else x for x in given])
        for one, other in zip(ours, exact, strict=True):
            limit = 0.02 * float(abs(other).max())
            np.testing.assert_allclose(one.astype(float), other, rtol=0, atol=limit)
