"""Batches as a function of (seed, step).

An epoch's order is a permutation drawn from the seed and the epoch's number. A step's batch is the
next `batch_size` of it; the last one is filled up with -1, which stands for no image. The decoded
set is on the device, and the jitted step gathers its rows, so the host sends 4 bytes for an image; or
whole batches are sent. A `Feed` is either of these, and the step takes both.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from train.data.imageset import ImageSet
from train.runtime import compilations

# Number of the seed's random stream for the order, so that order and initial values are independent.
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


class Feed(NamedTuple):
    """The batches of some rows in turn, as the runner gives them to the steps.

    `resident` are the images on the devices, and each of `parts` is a row of image numbers; or `resident` is
    None, and each of `parts` is a batch on the devices.
    """

    resident: Resident | None
    parts: Iterator[np.ndarray | Batch]


class Images(Protocol):
    """A split's images as training uses them, on the devices or streamed."""

    def feed(self, rows: np.ndarray) -> Feed:
        """The batch of each of `rows`, [steps, width] image numbers; -1 gives a masked row."""


class OnDevice:
    """A split whose images are on the devices; `replicate` puts them there."""

    def __init__(self, images: ImageSet, *, replicate: Callable[[Resident], Resident]):
        arrays: Any = images.images, images.labels
        self.resident = replicate(Resident(*arrays))

    def feed(self, rows: np.ndarray) -> Feed:
        """The rows as they are: the compiled step gathers their images."""
        return Feed(self.resident, iter(rows))


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
    return np.asarray(_order_drawn(size)(jax.random.key(seed), epoch), np.int32)


@functools.cache
def _order_drawn(size: int) -> Callable[[jax.Array, int], Int[Array, ' size']]:
    """The permutation of a run's key and an epoch's number, compiled once for all epochs."""

    def order(key: jax.Array, epoch: int) -> Int[Array, ' size']:
        return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, ORDER_STREAM), epoch), size)

    return compilations.quickly(order)


def take(data: Resident | None, indices: Int[Array, ' batch'] | Batch) -> Batch:
    """The batch of the images numbered `indices`; -1 gives a masked row. Traced inside the step.

    A batch is returned as it is: `Feed` gives one where no images are `Resident`.
    """
    if data is None or isinstance(indices, Batch):
        return cast(Batch, indices)
    real = indices >= 0
    safe = jnp.where(real, indices, 0)
    return Batch(
        image=jnp.take(data.images, safe, axis=0),
        label=jnp.where(real, jnp.take(data.labels, safe), 0),
        mask=real.astype(jnp.float32),
    )
