"""Dropout keeps the stated share, at every rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.layers.dropout import Dropout


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.9])
def test_the_share_that_is_zeroed_is_the_rate(rate):
    y = np.asarray(Dropout(rate).drop(jnp.ones((4, 5000)), jax.random.key(0)))
    assert (y == 0).mean() == pytest.approx(rate, abs=0.02)
    np.testing.assert_allclose(y[y > 0], 1 / (1 - rate), rtol=1e-6)
    assert len(np.unique(y == 0, axis=0)) == 4  # another mask for each image
