import math

import jax.numpy as jnp
import numpy as np

from flaxnets.layers.patches import cosine_positions, patches


def test_a_token_is_one_patch_row_by_row():
    images = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    tokens = patches(images, 2)
    assert tokens.shape == (2, 6, 12)
    for i, (row, column) in enumerate(np.ndindex(2, 3)):
        patch = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(tokens[:, i], patch.reshape(2, 12))


def test_cosine_positions():
    """The formula, entry by entry; an odd width ends with a sine."""
    table = cosine_positions(7, 5)
    assert table.shape == (7, 5)
    for p, j in np.ndindex(7, 5):
        if j % 2 == 0:
            expected = math.sin(p / 10000 ** (j / 5))
        else:
            expected = math.cos(p / 10000 ** ((j - 1) / 5))
        assert math.isclose(table[p, j], expected, abs_tol=1e-15)
