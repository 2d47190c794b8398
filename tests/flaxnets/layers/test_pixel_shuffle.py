"""Pixel shuffle and unshuffle, element by element."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets import UserError
from flaxnets.layers.pixel_shuffle import pixel_shuffle, pixel_unshuffle


@pytest.mark.parametrize(('height', 'width', 'scale'), [(4, 6, 2), (6, 3, 3), (2, 2, 1)])
def test_unshuffle_follows_pytorchs_channel_order(height, width, scale):
    x = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
    expected = np.zeros((2, height // scale, width // scale, 3 * scale**2), np.float32)
    for row, column, c in np.ndindex(height, width, 3):
        channel = c * scale**2 + (row % scale) * scale + column % scale
        expected[:, row // scale, column // scale, channel] = x[:, row, column, c]
    actual = pixel_unshuffle(jnp.asarray(x), scale)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(pixel_shuffle(actual, scale), x)


def test_sizes_that_do_not_divide():
    with pytest.raises(UserError, match='height and width that 2 divides, got 3 x 4'):
        pixel_unshuffle(jnp.zeros((1, 3, 4, 1)))
    with pytest.raises(UserError, match='channels that 4 divides, got 6'):
        pixel_shuffle(jnp.zeros((1, 2, 2, 6)))
