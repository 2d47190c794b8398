"""Pooling."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def max_pool(
    x: Float[Array, 'batch height width channels'], size: int = 2
) -> Float[Array, 'batch rows columns channels']:
    """The largest value of each `size` x `size` window, without overlap; an incomplete window at the
    right or lower edge is left out, as in PyTorch.

    A maximum over a reshaped array: on a CPU its backward pass takes a quarter of the time of
    `nnx.max_pool`'s, a select-and-scatter.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    return jnp.max(x.reshape(batch, rows, size, columns, size, channels), axis=(2, 4))


def adaptive_mean_pool(
    x: Float[Array, 'batch height width channels'], size: int
) -> Float[Array, 'batch size size channels']:
    """The mean of `size` x `size` bins, as PyTorch's `AdaptiveAvgPool2d` cuts them.

    On an axis of length n, bin i covers floor(i * n / size) to ceil((i + 1) * n / size), without the
    end: bins overlap where n is no multiple of `size`, and repeat pixels where n is smaller.
    """
    rows, columns = (jnp.asarray(_bins(n, size), x.dtype) for n in x.shape[1:3])
    # At the highest precision, because a GPU would round the values it only averages to TF32.
    return jnp.einsum('bhwc,ih,jw->bijc', x, rows, columns, precision='highest')


def _bins(length: int, size: int) -> np.ndarray:
    """[size, length]: row i averages bin i."""
    bins = np.zeros((size, length))
    for i in range(size):
        start, stop = i * length // size, -(-(i + 1) * length // size)
        bins[i, start:stop] = 1 / (stop - start)
    return bins
