"""The branching layer: which branches there are and how they are put together."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers.branching import BranchingLayer, BranchingOptions
from flaxnets.layers.candidates import RandomTokens
from flaxnets.layers.nearest import NearestOptions

X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 6, 3)), jnp.float32)


def build(**options):
    channel_ratio = options.pop('channel_ratio', None)
    nearest = NearestOptions(**{'num_neighbors': 3, **options})
    chosen = BranchingOptions(channel_ratio=channel_ratio, nearest=nearest)
    return BranchingLayer(3, 4, (4, 6), chosen, rngs=nnx.Rngs(0))


@pytest.mark.parametrize('ratio', [None, (4, 4), (3, 5), (8, 0), (0, 8)])
def test_statement(ratio):
    layer = build(channel_ratio=ratio)
    convolution, nearest = ratio or (4, 4)
    assert (layer.conv is None, layer.nearest is None) == (convolution == 0, nearest == 0)

    @nnx.jit
    def outputs(layer, x):
        return layer(x), [branch(x) for branch in (layer.conv, layer.nearest) if branch is not None]

    actual, branches = outputs(layer, X)
    assert [branch.shape[-1] for branch in branches] == [width for width in (convolution, nearest) if width]
    together = np.maximum(np.concatenate(branches, -1), 0)
    expected = together @ np.asarray(layer.reduce.kernel[0, 0]) + np.asarray(layer.reduce.bias[...])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_nearest_branch_takes_all_its_options():
    options = {
        'num_neighbors': 2,
        'pool': RandomTokens(num_candidates=5),
        'similarity': 'euclidean',
        'projection': 'value',
        'soft': True,
    }
    layer = build(**options, shuffle='none', location_channels=True)
    assert {name: getattr(layer.nearest.options, name) for name in options} == options
    assert layer.nearest.image.grid == (4, 6)
    assert layer.nearest.image.location_channels
    assert layer.draws_candidates
    assert not build(channel_ratio=(8, 0), pool=RandomTokens(num_candidates=5)).draws_candidates


@pytest.mark.parametrize('ratio', [(4, 5), (-1, 9), (8,), (4, 4, 0)])
def test_widths_that_do_not_add_up(ratio):
    with pytest.raises(UserError, match=r'model\.channel_ratio: expected two widths .* add up to 8, got'):
        build(channel_ratio=ratio)


def test_branches_keep_the_images_size():
    with pytest.raises(UserError, match=r"model\.shuffle: expected one of 'both', 'none', got 'before'"):
        build(shuffle='before')
