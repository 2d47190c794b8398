"""A decoded image classification set in memory, and how a decoded image is brought to the size asked for."""

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from flaxnets.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """A data source: `len(s)` and `s[i] -> {'image', 'label'}`, as torch's map-style data sets and grain's.

    `images` [N, H, W, C] uint8 (perhaps a read-only memory map, or rows of one), `labels` [N] int32 that
    index `class_names`.
    `fingerprint` is a short SHA-256 of images, labels and class names: the same on every machine.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    fingerprint: str

    @classmethod
    def of(
        cls, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, name: str, split: str
    ) -> 'ImageSet':
        """The set of these arrays, its fingerprint computed."""
        labels = np.asarray(labels, np.int32)
        fingerprint = checksum(images, labels, class_names)[:16]
        return cls(images, labels, tuple(class_names), name, split, fingerprint)

    def take(self, indices: np.ndarray, *, split: str | None = None) -> 'ImageSet':
        """The images at `indices`, in that order, with the same classes."""
        return ImageSet.of(
            rows_of(self.images, indices),
            self.labels[indices],
            self.class_names,
            name=self.name,
            split=split or self.split,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        # a copy, because torch warns about arrays that cannot be written to
        return {'image': np.array(self.images[index]), 'label': int(self.labels[index])}

    def __iter__(self) -> Iterator[dict]:
        return (self[i] for i in range(len(self)))


class MappedRows:
    """Rows of a memory map, in any order: what is not asked for stays on disk."""

    def __init__(self, array: np.ndarray, indices: np.ndarray):
        self.array, self.indices = array, indices
        self.shape = (len(indices), *array.shape[1:])
        self.dtype, self.nbytes = array.dtype, math.prod(self.shape) * array.itemsize

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple) or key is Ellipsis:
            return np.asarray(self)[key]
        return self.array[self.indices[key]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array[self.indices], dtype)


def rows_of(images: Any, indices: np.ndarray) -> Any:
    """`images[indices]`, left on disk where the images are."""
    if isinstance(images, MappedRows):
        return MappedRows(images.array, images.indices[indices])
    return MappedRows(images, indices) if isinstance(images, np.memmap) else images[indices]


def checksum(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """SHA-256, hex, of the pixels, the labels and the class names, in blocks: a memory map stays on disk."""
    digest = hashlib.sha256()
    for start in range(0, len(images), 4096):
        digest.update(np.ascontiguousarray(images[start : start + 4096]).data)
    finish_checksum(digest, images.shape, labels, class_names)
    return digest.hexdigest()


def finish_checksum(digest, shape: Sequence[int], labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Feed what follows the pixels in `checksum`."""
    digest.update(labels.astype('<i4').tobytes())
    digest.update(json.dumps([list(shape), list(class_names)]).encode())


def decode(data: bytes, file: str) -> np.ndarray:
    """The pixels [H, W, 1 or 3] of a PNG, JPEG, BMP, GIF, PPM, TIFF or WebP file's bytes."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return from_picture(picture, file)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{file}: not a readable image ({error}); replace or delete it') from error


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
    if len(given) > 2 or not all(isinstance(side, int) and side > 0 for side in given):
        raise UserError(f'data.image_size: expected a side or (height, width) in pixels, got {image_size!r}')
    return given[0], given[-1]


def fit(image: np.ndarray, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """`image` [H, W, 1 or 3] uint8 with `channels` (Pillow's luminance, or repeated), bilinear to `size`.

    `size` is (height, width); None, and 0 for `channels`, keep what is there.
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


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask [N] of about `fraction` of every class, drawn by `seed` alone.

    `RandomState` because NumPy guarantees its streams for ever: the split is the same on every machine.
    """
    mask = np.zeros(len(labels), bool)
    random = np.random.RandomState(seed)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        mask[members[: round(fraction * len(members))]] = True
    return mask
