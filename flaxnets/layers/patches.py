"""Images as tokens: patches and their positions (Dosovitskiy et al., 2021)."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError


def count(height: int, width: int, size: int) -> int:
    """How many `size` x `size` patches an image has.

    Raises:
        UserError: a side that `size` does not divide.
    """
    if height % size or width % size:
        raise UserError(
            f"model.patch_size: expected a divisor of the image's sides, {height} and {width}, got {size}; "
            'resize the images (data.image_size)'
        )
    return (height // size) * (width // size)


def after_class_token(
    token: nnx.Param, x: Float[Array, 'batch tokens features']
) -> Float[Array, 'batch more features']:
    """The same class token [1, features] in front of the tokens of each image."""
    first = jnp.broadcast_to(token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
    return jnp.concatenate([first, x], axis=1)


def patches(
    images: Float[Array, 'batch height width channels'], size: int
) -> Float[Array, 'batch tokens features']:
    """Cuts images into `size` x `size` patches, row by row; a token is its patch's pixels in the
    order row, column, channel: [B, (H / size) * (W / size), size * size * C]."""
    batch, height, width, channels = images.shape
    rows, columns = height // size, width // size
    x = images.reshape(batch, rows, size, columns, size, channels)
    return x.swapaxes(2, 3).reshape(batch, rows * columns, size * size * channels)


def cosine_positions(tokens: int, width: int) -> np.ndarray:
    """The fixed position table [tokens, width] of Vaswani et al. (2017).

    Column j of position p is sin(p / 10000^(j / width)) for even j and
    cos(p / 10000^((j - 1) / width)) for odd j.
    """
    column = np.arange(width)
    angle = np.arange(tokens)[:, None] / 10000.0 ** ((column - column % 2) / width)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))
