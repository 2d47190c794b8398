"""From a file's bytes to pixels, and from an image's own size and channels to those of the config."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from flaxnets.errors import UserError

MAX_SIDE = 16384  # pixels: 805 MB of colours; more is a mistake


def decode(data: bytes, file: str) -> np.ndarray:
    """The pixels [H, W, 1 or 3] of a PNG, JPEG, BMP, GIF, PPM, TIFF or WebP file's bytes."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return from_picture(picture, file)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        # Pillow would name the object in memory, not the file.
        why = 'of no known format' if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f'{file}: not a readable image ({why}); replace or delete it') from error


def decode_file(path: pathlib.Path) -> np.ndarray:
    """The pixels [H, W, 1 or 3] of an image file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: not readable ({error}); replace or delete it') from error
    return decode(data, str(path))


def from_picture(picture: Image.Image, file: str) -> np.ndarray:
    """The pixels [H, W, 1] of a grey picture, [H, W, 3] of any other; transparency is dropped."""
    if picture.mode.startswith(('I', 'F')):
        raise UserError(f'{file}: expected 8-bit pixels, got mode {picture.mode}; convert it to 8 bits')
    grey = picture.mode in ('1', 'L', 'LA', 'La')
    pixels = np.asarray(picture.convert('L' if grey else 'RGB'))
    return pixels[..., None] if grey else pixels


def sides(image_size: int | Sequence[int]) -> tuple[int, int] | None:
    """(height, width) of a side, a pair, or 0 or () for as stored."""
    given = (image_size,) if isinstance(image_size, int) else tuple(image_size)
    if given in ((), (0,)):
        return None
    if len(given) > 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in given):
        raise UserError(
            f'data.image_size: expected a side or (height, width) in pixels, up to {MAX_SIDE}, '
            f'got {image_size!r}'
        )
    return given[0], given[-1]


def fit(image: np.ndarray, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """`image` [H, W, 1 or 3] uint8 with `channels` (Pillow's luminance, or repeated), bilinear to `size`.

    `size` is (height, width); None, and 0 for `channels`, change nothing.
    """
    channels = channels or image.shape[-1]
    if (size is not None and image.shape[:2] != size) or image.shape[-1] > channels:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        if channels == 1:
            picture = picture.convert('L')
        if size is not None and image.shape[:2] != size:
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        image = np.asarray(picture)
        image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image, channels, axis=-1) if image.shape[-1] < channels else image
