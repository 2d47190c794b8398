"""Images as tokens and back."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers.pixel_shuffle import pixel_unshuffle
from flaxnets.layers.tokens import ImageTokens, TokenOptions, location_channels

RNG = np.random.default_rng(0)


def build(*sizes, **options):
    return ImageTokens(*sizes, TokenOptions(**options), rngs=nnx.Rngs(0))


def test_location_channels_are_unit_vectors_of_row_and_column():
    location = location_channels(4, 5)
    assert location.shape == (4, 5, 2)
    for row, column in np.ndindex(4, 5):
        length = (row**2 + column**2) ** 0.5
        expected = (row / length, column / length) if length else (0, 0)
        np.testing.assert_allclose(location[row, column], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ('shuffle', 'grid', 'features', 'out_size'),
    [
        ('both', (3, 4), (12, 20), (6, 8)),
        ('none', (6, 8), (3, 5), (6, 8)),
        ('before', (3, 4), (12, 5), (3, 4)),
        ('after', (6, 8), (3, 20), (12, 16)),
    ],
)
def test_sizes(shuffle, grid, features, out_size):
    image = build(3, 5, (6, 8), shuffle=shuffle)
    assert (image.grid, image.features, image.out_size) == (grid, features, out_size)
    x = jnp.asarray(RNG.standard_normal((2, 6, 8, 3)), jnp.float32)
    assert image.split(x).shape == (2, grid[0] * grid[1], features[0])
    assert image.join(jnp.zeros((2, grid[0] * grid[1], features[1]))).shape == (2, *out_size, 5)


def test_location_channels_come_after_the_images_own_and_leave_through_a_convolution():
    image = build(3, 5, (6, 8), location_channels=True)
    assert image.features == (4 * (3 + 2), 4 * (5 + 2))
    x = jnp.asarray(RNG.standard_normal((2, 6, 8, 3)), jnp.float32)
    location = np.broadcast_to(location_channels(6, 8), (2, 6, 8, 2)).astype(np.float32)
    expected = pixel_unshuffle(jnp.concatenate([x, location], -1)).reshape(2, 12, 20)
    np.testing.assert_array_equal(image.split(x), expected)
    assert image.pointwise.kernel.shape == (1, 1, 5 + 2, 5)
    assert image.join(jnp.zeros((2, 12, 28))).shape == (2, 6, 8, 5)


def test_unused_parameters_are_counted_only_when_left_out():
    """The 1x1 convolution of the published layers: 304 parameters at 16 channels."""
    assert build(3, 16, (6, 8)).unused_parameters == 304
    assert build(3, 16, (6, 8), location_channels=True).unused_parameters == 0


def test_odd_sizes():
    with pytest.raises(UserError, match='even height and width, got 7 x 8'):
        build(3, 16, (7, 8))
    assert build(3, 16, (7, 9), shuffle='none').grid == (7, 9)
    with pytest.raises(UserError, match=r"model\.shuffle: expected one of 'both', .* got 'twice'"):
        build(3, 16, (8, 8), shuffle='twice')
