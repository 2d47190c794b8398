"""Pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(
    x: Float[Array, 'batch height width channels'], size: int = 2
) -> Float[Array, 'batch rows columns channels']:
    """The largest value of each `size` x `size` window, without overlap; an incomplete window at the
    right or lower edge is left out, as in PyTorch.

    The gradient goes to the largest value, of equal ones to the first, as in PyTorch; `jnp.max` would divide
    it among them, in several passes over the image.
    """
    return _largest(x, size)[0]


def _largest(x: Array, size: int) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    """The largest values; the place of each in its window, counted by rows; and the shape of `x`."""
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    windows = x[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, channels)
    largest, place = windows[:, :, 0, :, 0], jnp.zeros((batch, rows, columns, channels), 'uint8')
    for i in range(1, size * size):
        value = windows[:, :, i // size, :, i % size]
        place = jnp.where(value > largest, jnp.uint8(i), place)
        largest = jnp.maximum(largest, value)
    # Without the barrier XLA computes the places again for every pixel of the gradient.
    return largest, (jax.lax.optimization_barrier(place), x.shape)


def _to_largest(size: int, saved: tuple[Array, tuple[int, ...]], gradient: Array) -> tuple[Array]:
    place, (batch, height, width, channels) = saved
    _, rows, columns, _ = gradient.shape
    # Compared as floats, because XLA makes no vector instructions of bytes and floats together.
    place = place.astype('float32')
    places = jnp.arange(size * size, dtype='float32').reshape(1, 1, size, 1, size, 1)
    windows = jnp.where(place[:, :, None, :, None] == places, gradient[:, :, None, :, None], 0)
    x = windows.reshape(batch, rows * size, columns * size, channels)
    return (jnp.pad(x, ((0, 0), (0, height - rows * size), (0, width - columns * size), (0, 0))),)


max_pool.defvjp(_largest, _to_largest)


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
