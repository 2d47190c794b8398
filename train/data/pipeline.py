"""Batches as a function of (seed, step).

An epoch's order is a permutation drawn from the seed and the epoch's number. A step's batch is the
next `batch_size` of it; the last one is filled up with -1, which stands for no image. The decoded
set lies on the device, and the jitted step gathers its rows, so the host sends 4 bytes an image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

# The seed's streams: folded in first, so that order and initial values are independent.
ORDER_STREAM = 1


class Batch(NamedTuple):
    """Images as stored, labels, and which rows are images (1) and which are padding (0)."""

    image: UInt8[Array, 'batch height width channels']
    label: Int[Array, ' batch']
    mask: Float[Array, ' batch']


class Resident(NamedTuple):
    """A decoded set on the device."""

    images: UInt8[Array, 'size height width channels']
    labels: Int[Array, ' size']


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Batches of an epoch, the partial last one among them."""
    return -(-size // batch_size)


def rows(order: np.ndarray, batch_size: int, multiple: int = 1) -> np.ndarray:
    """`order` cut into batches, [steps, width] int32, filled up with -1.

    The width is `batch_size` rounded up to a multiple of the number of devices that share it.
    """
    width = -(-batch_size // multiple) * multiple
    steps = steps_per_epoch(len(order), batch_size)
    cut = np.full((steps, width), -1, np.int32)
    filled = np.full(steps * batch_size, -1, np.int32)
    filled[: len(order)] = order
    cut[:, :batch_size] = filled.reshape(steps, batch_size)
    return cut


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation of 0..size-1 in which epoch number `epoch` visits the images."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), ORDER_STREAM), epoch)
    return np.asarray(jax.random.permutation(key, size), np.int32)


def take(data: Resident, indices: Int[Array, ' batch']) -> Batch:
    """The batch of the images numbered `indices`; -1 gives a masked row. Traced inside the step."""
    real = indices >= 0
    safe = jnp.where(real, indices, 0)
    return Batch(
        image=jnp.take(data.images, safe, axis=0),
        label=jnp.where(real, jnp.take(data.labels, safe), 0),
        mask=real.astype(jnp.float32),
    )
