"""What a layer may need to know about the batch that its images belong to.

Almost every layer treats images one by one. Two do not: batch normalisation averages over the
batch, and dropout draws random numbers for each image of it. A batch can be *padded* (the last one of
an epoch, to a fixed size, so that nothing is compiled again) and it can be *one shard* of a larger batch
(under `jax.pmap` or `jax.shard_map`, where a layer sees the images of one device). Both layers call
`current()`, and so compute the same as on the real images of the whole batch; models need no argument
for it.

    with batch.scope(mask=mask, axis_name='data'):
        logits = model(images, rngs=rngs)
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Int


@dataclasses.dataclass(frozen=True)
class Batch:
    """`mask` [B]: 1 for a real image, 0 for padding; None: all real. `axis_name`: the mapped axis
    the batch is sharded over; None: the layer sees the whole batch. `divided`: it sees the whole batch, whose
    images the compiler divides among devices, so that a few of them cannot be computed at a time."""

    mask: ArrayLike | None = None
    axis_name: str | None = None
    divided: bool = False

    def sum(self, x: Array) -> Array:
        """Adds `x` over the devices that share the batch."""
        return x if self.axis_name is None else jax.lax.psum(x, self.axis_name)

    def positions(self, size: int) -> Int[Array, ' size']:
        """Each image's position in the whole batch, for `size` images seen here."""
        first = 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name) * size
        return first + jnp.arange(size)


WHOLE = Batch()
_CURRENT = contextvars.ContextVar('batch', default=WHOLE)


def current() -> Batch:
    """The batch being computed; the whole of it, unpadded, outside any `scope`."""
    return _CURRENT.get()


@contextlib.contextmanager
def scope(
    *, mask: ArrayLike | None = None, axis_name: str | None = None, divided: bool = False
) -> Iterator[None]:
    """Layers called inside see these. Only tracing sees it: enter it inside jit."""
    token = _CURRENT.set(Batch(mask, axis_name, divided))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def images_within(limit: int, batch: int, bytes_of_one: int) -> int:
    """How many images of a batch, a divisor of it, have `limit` bytes at most; at least one."""
    return max(n for n in range(1, batch + 1) if batch % n == 0 and (n == 1 or n * bytes_of_one <= limit))


def in_parts(x: Array, images: int) -> Array:
    """[batch, ...] -> [parts, images, ...], for a scan over parts: image i * parts + j is in part j, so that
    a batch divided among devices stays divided."""
    return jnp.moveaxis(x.reshape(images, -1, *x.shape[1:]), 1, 0)
