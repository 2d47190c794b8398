"""Dropout with random numbers for each image, not for each device (Srivastava et al., 2014)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Key, UInt32

from flaxnets.errors import UserError
from flaxnets.layers import batch
from flaxnets.layers.depth import kept


class Dropout(nnx.Module):
    """In training, zeroes each value with probability `rate` and divides the others by 1 - rate.

    The random numbers of an image depend on the step's key and on the image's position in the whole batch,
    so they are the same for any number of devices. `nnx.Dropout` draws for the array it
    sees, and gives every device of a `pmap` the same mask.
    """

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise UserError(f'dropout: expected a rate in [0, 1), got {rate}')
        self.rate = rate
        self.deterministic = False

    def __call__(
        self, x: Float[Array, 'batch *rest'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch *rest']:
        return self.drop(x, self.key(rngs))

    def key(self, rngs: nnx.Rngs | None) -> Key[Array, ''] | None:
        """The key of a call's draws; None where nothing is dropped.

        Raises:
            UserError: no random stream in training.
        """
        if self.deterministic or self.rate == 0:
            return None
        if rngs is None or not ('dropout' in rngs or 'default' in rngs):
            raise UserError(
                'dropout: training needs a random stream; call model(images, rngs=nnx.Rngs(dropout=0))'
            )
        return rngs.dropout()

    def drop(self, x: Float[Array, 'batch *rest'], key: Key[Array, ''] | None) -> Float[Array, 'batch *rest']:
        """`x` with the values that `key` draws zeroed; `x` itself without one."""
        if key is None:
            return x
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch.current().positions(len(x)))
        bits = jax.vmap(lambda k: words(k, x.shape[1:]))(keys)
        keep = bits >= jnp.uint32(min(round(self.rate * 2**32), 2**32 - 1))  # from 2^31 on, no int32
        return jnp.where(kept(keep), x / (1 - self.rate), jnp.zeros_like(x))


def words(key: Key[Array, ''], shape: tuple[int, ...]) -> UInt32[Array, '...']:
    """Random numbers of 32 bits in a third of the time of `jax.random.bits`, which hashes twice as much so
    that an array can be divided among devices anywhere; ours are divided between images."""
    pair = jax.random.bits(key, (2,), jnp.uint32)
    return threefry_2x32(pair, jnp.arange(math.prod(shape), dtype=jnp.uint32)).reshape(shape)
