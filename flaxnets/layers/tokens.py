"""An image as a sequence of tokens and back: what the ConvNN and the attention layer share.

    image [B, H, W, C] -> location channels? -> unshuffle? -> tokens [B, T, F]
    tokens [B, T, F']  -> shuffle? -> 1x1 convolution, if location channels were added -> image

A token is one position of the (unshuffled) image, row by row; its features are that position's
channels. `shuffle` says on which side of the token layer 2 x 2 blocks of pixels become channels: 'both'
keeps the image's size, 'none' makes every pixel a token, 'before' halves the size, 'after' doubles it.
Source: document 000.
"""

import dataclasses
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers.conv import Conv
from flaxnets.layers.init import Types
from flaxnets.layers.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from flaxnets.options import Options, option

SCALE = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenOptions(Options):
    """Options of every layer over tokens."""

    shuffle: str = option(
        'both',
        'on which sides of the layer 2 x 2 blocks of pixels become channels',
        choices=('both', 'none', 'before', 'after'),
    )
    location_channels: bool = option(False, "add each pixel's row and column as channels")


def location_channels(height: int, width: int) -> np.ndarray:
    """`[H, W, 2]`: each pixel's row and column, counted from 0, divided by the length of the two.

    The first pixel's (0, 0) stays 0. What remains is the direction seen from the upper left corner.
    """
    location = np.moveaxis(np.indices((height, width), np.float64), 0, -1)
    return location / np.maximum(np.linalg.norm(location, axis=-1, keepdims=True), 1e-12)


class ImageTokens(nnx.Module):
    """Both directions between an image and its tokens.

    Attributes:
        grid: rows and columns of tokens, T = rows x columns.
        out_size: height and width of the image coming out.
        features: a token's features, [going in, coming out].
        out_features: channels of the image coming out.
        unused_parameters: the 1x1 convolution [C_out + 2, C_out] that the published layers own even
            without location channels, when no input reaches it; it is left out here, but counted there.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        options: TokenOptions,
        **types: Unpack[Types],
    ):
        self.unshuffles = options.shuffle in ('both', 'before')
        self.shuffles = options.shuffle in ('both', 'after')
        height, width = image_size
        scale = SCALE if self.unshuffles else 1
        if height % scale or width % scale:
            raise UserError(
                f'model.image_shape: expected an even height and width, got {height} x {width}; '
                "crop or pad the images, or set model.shuffle to 'none'"
            )
        self.grid = (height // scale, width // scale)
        back = SCALE if self.shuffles else 1
        self.out_size = (self.grid[0] * back, self.grid[1] * back)
        extra = 2 if options.location_channels else 0
        self.features = ((in_features + extra) * scale**2, (out_features + extra) * back**2)
        self.out_features = out_features
        self.location_channels = options.location_channels
        self.unused_parameters = 0 if self.location_channels else (out_features + 2 + 1) * out_features
        if self.location_channels:
            self.pointwise = Conv(out_features + 2, out_features, 1, **types)

    def split(
        self, image: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch tokens features']:
        """The image's tokens, row by row."""
        if self.location_channels:
            batch, height, width, _ = image.shape
            location = jnp.asarray(location_channels(height, width), image.dtype)
            location = jnp.broadcast_to(location, (batch, height, width, 2))
            image = jnp.concatenate([image, location], axis=-1)
        if self.unshuffles:
            image = pixel_unshuffle(image, SCALE)
        return image.reshape(len(image), -1, image.shape[-1])

    def join(
        self, tokens: Float[Array, 'batch tokens features']
    ) -> Float[Array, 'batch height width channels']:
        """The image of these tokens."""
        image = tokens.reshape(len(tokens), *self.grid, -1)
        if self.shuffles:
            image = pixel_shuffle(image, SCALE)
        return self.pointwise(image) if self.location_channels else image
