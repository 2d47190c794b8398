"""Pixels into channels and back (Shi et al., 2016), in PyTorch's channel order.

    unshuffle   [B, s·H, s·W, C] -> [B, H, W, C·s²]   channel c·s² + dy·s + dx is pixel (dy, dx)
    shuffle     [B, H, W, C·s²] -> [B, s·H, s·W, C]    the inverse

Nothing is computed, values are only moved. A layer that compares all positions with one another then has
a quarter of the positions, each of them a 2 x 2 block of pixels.
"""

from jaxtyping import Array, Float

from flaxnets.errors import UserError


def pixel_unshuffle(
    x: Float[Array, 'batch height width channels'], scale: int = 2
) -> Float[Array, 'batch rows columns features']:
    """Each `scale` x `scale` block of pixels becomes one position with all their channels.

    Raises:
        UserError: a height or width that `scale` does not divide.
    """
    batch, height, width, channels = x.shape
    if height % scale or width % scale:
        raise UserError(
            f'pixel_unshuffle: expected a height and width that {scale} divides, got {height} x {width}; '
            'crop or pad the images'
        )
    x = x.reshape(batch, height // scale, scale, width // scale, scale, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, height // scale, width // scale, channels * scale**2)


def pixel_shuffle(
    x: Float[Array, 'batch rows columns features'], scale: int = 2
) -> Float[Array, 'batch height width channels']:
    """Each position becomes a `scale` x `scale` block of pixels; inverse of `pixel_unshuffle`.

    Raises:
        UserError: channels that `scale`² does not divide.
    """
    batch, rows, columns, features = x.shape
    if features % scale**2:
        raise UserError(f'pixel_shuffle: expected channels that {scale**2} divides, got {features}')
    channels = features // scale**2
    x = x.reshape(batch, rows, columns, channels, scale, scale)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, rows * scale, columns * scale, channels)
