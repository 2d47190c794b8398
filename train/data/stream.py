"""Sets that do not fit on the device: batches read ahead by grain's threads, in the order of any other run.

The pixels stay in the cache on disk, memory-mapped. A worker copies a batch's rows from the map, which needs
no decoding and lets other threads run meanwhile, so threads are enough: processes would take time to start
and to pickle and copy every batch.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from train.data.imageset import ImageSet
from train.data.pipeline import Batch, Feed
from train.memory import megabytes

# Batches that are copied to the device before the steps that use them.
AHEAD = 2
# Share of the free memory that a set may take: the rest is for the model, its gradients and XLA.
SHARE = 0.5


def place(placement: str, needed: int, free: int | None) -> tuple[bool, str]:
    """(whether the images are on the device, words that say so), for `needed` bytes of `free` ones on a
    device.

    'auto' streams what takes more than half of the free memory; None, unknown, counts as enough.
    """
    room = 'unknown' if free is None else megabytes(free)
    fits = free is None or needed <= SHARE * free
    if placement == 'stream' or (placement == 'auto' and not fits):
        return False, f'{megabytes(needed)}, streamed from the cache ({room} are free on the device)'
    return True, f'{megabytes(needed)} on the device ({room} were free)'


class Stream:
    """A split whose batches are read on the host and put on the devices ahead of their use.

    `own` says which images of a batch's width this process loads, and `join` makes one array of the parts
    of all processes.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        workers: int,
        own: Callable[[int], slice],
        join: Callable[[np.ndarray], jax.Array],
    ):
        self.images, self.workers, self.own, self.join = images, workers, own, join

    def feed(self, rows: np.ndarray) -> Feed:
        """The batch of each of `rows`, [steps, width] image numbers; -1 gives a masked row."""
        return Feed(None, self._batches(rows))

    def _batches(self, rows: np.ndarray) -> Iterator[Batch]:
        import grain  # defines absl flags and takes a second

        source = HostBatches(self.images, rows[:, self.own(rows.shape[1])])
        options = grain.ReadOptions(num_threads=self.workers, prefetch_buffer_size=2 * self.workers)
        read = grain.MapDataset.source(source).to_iter_dataset(options)
        put = read.map(lambda batch: jax.tree.map(self.join, batch))
        ahead = iter(grain.experimental.ThreadPrefetchIterDataset(put, prefetch_buffer_size=AHEAD))
        try:
            yield from ahead
        finally:
            ahead.close()


@dataclasses.dataclass(frozen=True)
class HostBatches:
    """A source for grain: item i is the batch of `rows[i]`, the same as `pipeline.take` gathers."""

    images: ImageSet
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row = self.rows[index]
        real = row >= 0
        safe = np.where(real, row, 0)
        labels = np.where(real, self.images.labels[safe], 0)
        arrays: Any = self.images.gather(safe), labels, real.astype(np.float32)
        return Batch(*arrays)
