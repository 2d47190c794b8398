"""The pools that neighbours are chosen from."""

import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers import candidates


def make(pool, num_candidates):
    kinds = {'random': candidates.RandomTokens, 'spatial': candidates.GridTokens}
    if pool == 'all':
        return candidates.AllTokens()
    return kinds[pool](num_candidates=num_candidates)


def test_the_published_grid():
    """Round half to even of linspace(0, 15, 8): 2.14 -> 2, 4.29 -> 4, 6.43 -> 6, 8.57 -> 9, ..."""
    lines = [0, 2, 4, 6, 9, 11, 13, 15]
    expected = [row * 16 + column for row in lines for column in lines]
    assert candidates.spatial_grid((16, 16), 64).tolist() == expected


def test_grid_rounds_half_to_even_and_follows_the_maps_shape():
    # Rows 0, 2.5, 5; columns 0, 3.5, 7.
    expected = [row * 8 + column for row in (0, 2, 5) for column in (0, 4, 7)]
    assert candidates.spatial_grid((6, 8), 9).tolist() == expected


def test_draws_are_distinct_and_follow_the_stream():
    first, again = (candidates.draw(30, 20, nnx.Rngs(candidates=3)) for _ in range(2))
    rngs = nnx.Rngs(candidates=3)
    one, two = candidates.draw(30, 20, rngs), candidates.draw(30, 20, rngs)
    assert len(set(first.tolist())) == 20
    assert set(first.tolist()) <= set(range(30))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, one)
    assert one.tolist() != two.tolist()
    assert candidates.draw(30, 20, nnx.Rngs(0)).shape == (20,), 'the default stream serves too'


@pytest.mark.parametrize('rngs', [None, nnx.Rngs(dropout=0)])
def test_no_stream_says_how_to_pass_one(rngs):
    with pytest.raises(UserError, match=r'rngs=nnx\.Rngs\(candidates=0\)'):
        candidates.draw(30, 20, rngs)


@pytest.mark.parametrize(
    ('pool', 'grid', 'num_candidates', 'num_neighbors', 'message'),
    [
        ('all', (4, 4), 64, 17, 'model.num_neighbors: expected 1 to 16 among the 16 tokens, got 17'),
        ('random', (4, 4), 8, 9, 'model.num_neighbors: expected 1 to 8 among 8 candidates, got 9'),
        ('spatial', (4, 4), 9, 11, 'model.num_neighbors: expected 1 to 10 among 9 candidates, got 11'),
        ('random', (4, 4), 17, 9, 'model.num_candidates: expected 1 to 16 of the 4 x 4 tokens, got 17'),
        ('random', (4, 4), 0, 1, 'model.num_candidates: expected a whole number of at least 1, got 0'),
        ('spatial', (4, 9), 25, 9, 'model.num_candidates: expected 1 to 16 of the 4 x 9 tokens, got 25'),
        ('spatial', (8, 8), 24, 9, 'model.num_candidates: expected a square .* got 24; try 16 or 25'),
    ],
)
def test_numbers_that_do_not_fit(pool, grid, num_candidates, num_neighbors, message):
    with pytest.raises(UserError, match=message):
        make(pool, num_candidates).check(grid, num_neighbors)


@pytest.mark.parametrize(
    ('pool', 'num_candidates', 'num_neighbors'), [('all', 64, 16), ('random', 16, 16), ('spatial', 16, 17)]
)
def test_the_largest_numbers_that_fit(pool, num_candidates, num_neighbors):
    make(pool, num_candidates).check((4, 4), num_neighbors)
