"""The ways to select the most similar candidates find the same, ties included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.layers import selection, selection_pallas
from flaxnets.layers.nearest import cosine, euclidean

WAYS = {
    'top_k': selection.by_top_k,
    'rounds': selection.by_rounds,
    'kernel': functools.partial(selection_pallas.by_kernel, interpret=True),
}


def product(a, b):
    """Exact on small integers, whatever the order of the sums."""
    return jnp.einsum('...tc,...nc->...tn', a, b)


def case(seed, batch=4, tokens=37, candidates=20, features=5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    # Small integers: many similarities are equal, to the bit.
    keys = rng.integers(-1, 2, (batch, tokens, features)).astype(dtype)
    pool = rng.permutation(tokens)[:candidates]
    return jnp.asarray(keys), jnp.asarray(keys[:, pool]), jnp.asarray(pool)


def statement(similarity, keys, queries, count, pool):
    """[K, B, T] by a stable sort."""
    scores = np.array(similarity(keys, queries))
    scores[:, np.arange(keys.shape[1])[:, None] == np.asarray(pool)] = -np.inf
    return np.moveaxis(np.argsort(-scores, -1, kind='stable')[..., :count], -1, 0)


@pytest.mark.parametrize('way', WAYS.values(), ids=WAYS)
@pytest.mark.parametrize('similarity', [product, euclidean])
@pytest.mark.parametrize('excluded', [True, False])
def test_each_way_finds_what_a_stable_sort_finds(way, similarity, excluded):
    keys, queries, pool = case(0)
    pool = pool if excluded else jnp.full(len(pool), -1)
    found = way(similarity, keys, queries, 7, pool)
    np.testing.assert_array_equal(found, statement(similarity, keys, queries, 7, pool))


@pytest.mark.parametrize('cached', [1, 37 * 20 * 4 * 3, 2**30])
def test_rounds_over_parts_of_the_batch(cached, monkeypatch):
    monkeypatch.setattr(selection, 'CACHED', cached)
    keys, queries, pool = case(1, batch=6)
    found = selection.by_rounds(product, keys, queries, 5, pool)
    np.testing.assert_array_equal(found, statement(product, keys, queries, 5, pool))


@pytest.mark.parametrize('candidates', [1, 2, 23, 29, 37])
def test_rounds_where_the_last_group_is_not_full(candidates):
    keys, queries, pool = case(4, candidates=candidates)
    pool = jnp.full(len(pool), -1)
    count = min(7, candidates)
    found = selection.by_rounds(product, keys, queries, count, pool)
    np.testing.assert_array_equal(found, statement(product, keys, queries, count, pool))
    diverged = selection.by_rounds(cosine, keys * jnp.nan, queries * jnp.nan, count, pool)
    assert 0 <= diverged.min() <= diverged.max() < candidates


@pytest.mark.parametrize('dtype', ['float32', 'float64', 'bfloat16', 'float16'])
def test_integers_in_the_order_of_the_numbers(dtype):
    with jax.enable_x64(dtype == 'float64'):
        numbers = [-np.inf, -1e4, -1.5, -1.0, -6e-8, 0.0, 6e-8, 1.0, 1.5, 1e4, np.inf]
        found = np.asarray(selection.ordered(jnp.asarray(numbers, dtype)))
        assert (np.diff(found) > 0).all()
        assert found[0] > np.iinfo(found.dtype).min
        assert selection.ordered(jnp.asarray(-0.0, dtype)) == found[5]


def test_groups_have_all_candidates_and_are_near_the_root():
    for candidates in range(1, 2000):
        groups, size = selection.grouping(candidates)
        assert (groups - 1) * size < candidates <= groups * size
        assert size <= 32
    assert sum(selection.grouping(197)) <= 29  # a prime number


@pytest.mark.parametrize('way', WAYS.values(), ids=WAYS)
def test_indices_stay_in_range_when_training_has_diverged(way):
    keys, queries, pool = case(2)
    found = np.asarray(way(cosine, keys * jnp.nan, queries * jnp.nan, 7, pool))
    assert found.min() >= 0
    assert found.max() < len(pool)


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='how XLA compiles top_k for CPUs')
@pytest.mark.parametrize('way', ['top_k', 'rounds'])
def test_no_full_sort(way):
    """XLA compiles top_k as a sort of all candidates if it is sliced carelessly."""
    keys, queries, pool = case(3)
    first = jax.jit(lambda *arguments: WAYS[way](cosine, *arguments[:2], 7, arguments[2])[0])
    compiled = first.lower(keys, queries, pool).compile().as_text()
    assert ('TopK' in compiled) == (way == 'top_k')
    assert ' sort(' not in compiled


def test_the_kernel_lowers_to_triton():
    arguments = case(3)
    select = jax.jit(lambda keys, queries, pool: selection_pallas.by_kernel(cosine, keys, queries, 7, pool))
    lowered = select.trace(*arguments).lower(lowering_platforms=('cuda',)).as_text()
    assert 'triton' in lowered


def test_a_kernel_that_fails_is_not_used():
    """On CPU it does not compile, as it may not on some GPU."""
    selection_pallas.works.cache_clear()
    with pytest.warns(UserWarning, match=r'by lax\.top_k: the GPU kernel fails'):
        assert not selection_pallas.works(selection.by_top_k)
    selection_pallas.works.cache_clear()


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch):
    selection_pallas.works.cache_clear()
    monkeypatch.setattr(selection_pallas, 'by_kernel', WAYS['kernel'])
    assert jax.jit(lambda: selection_pallas.works(selection.by_top_k))(), 'while a program is traced'
    selection_pallas.works.cache_clear()
    monkeypatch.setattr(selection_pallas, 'by_kernel', lambda *arguments: WAYS['kernel'](*arguments) + 1)
    with pytest.warns(UserWarning, match='finds other indices'):
        assert not selection_pallas.works(selection.by_top_k)
    selection_pallas.works.cache_clear()


def test_off_the_cpu_the_choice_is_made_when_compiling(monkeypatch):
    """As on a machine with a GPU: the same indices on its CPU devices, Triton for CUDA."""
    keys, queries, _ = case(4)
    select = jax.jit(lambda k, q: selection.most_similar(product, k, q, 3))
    expected = select(keys, queries)
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(selection_pallas, 'works', lambda expected: True)
    select = jax.jit(lambda k, q: selection.most_similar(product, k, q, 3))
    np.testing.assert_array_equal(select(keys, queries), expected)
    assert 'triton' in select.trace(keys, queries).lower(lowering_platforms=('cuda',)).as_text()
