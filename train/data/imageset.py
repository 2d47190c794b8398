"""A decoded image classification set: one array of images, and which of them belong to the set."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

BLOCK = 4096  # images hashed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """A data source: `len(s)` and `s[i] -> {'image', 'label'}`, as torch's map-style data sets and grain's.

    Args:
        pixels: the decoded images [M, H, W, C] uint8, of which the set may be a part; perhaps a read-only
            memory map.
        labels: [N] int32 that index `class_names`.
        sha256: `checksum` of all M images, computed when they were decoded.
        indices: [N] which of `pixels` belong to the set, in its order; None for all M.
        file: the .npy file that `pixels` maps. A pickled set names it in place of the pixels, so that a
            spawned DataLoader worker maps the same file.
        origin: where the images come from, in words.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    sha256: str
    indices: np.ndarray | None = None
    file: pathlib.Path | None = None
    origin: str = ''

    @classmethod
    def of(
        cls, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, name: str, split: str
    ) -> 'ImageSet':
        """The set of all these images, hashed here."""
        labels = np.asarray(labels, np.int32)
        blocks = (np.ascontiguousarray(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK))
        sha256 = checksum(blocks, images.shape, labels, class_names)
        return cls(images, labels, tuple(class_names), name, split, sha256)

    @property
    def images(self) -> np.ndarray:
        """[N, H, W, C] uint8. Of a part of the pixels this is a copy: `gather` reads a few of them."""
        return self.pixels if self.indices is None else self.pixels[self.indices]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.pixels.shape[1:]

    @property
    def nbytes(self) -> int:
        """Bytes of the set's images and labels."""
        return len(self) * int(np.prod(self.image_shape)) + self.labels.nbytes

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The images numbered `rows`, [len(rows), H, W, C]; the others stay on disk."""
        return self.pixels[rows if self.indices is None else self.indices[rows]]

    def take(self, rows: np.ndarray) -> 'ImageSet':
        """The set of the images numbered `rows`, in that order, with the same classes; no pixel is read."""
        indices = rows if self.indices is None else self.indices[rows]
        everything = len(indices) == len(self.pixels) and (indices == np.arange(len(indices))).all()
        return dataclasses.replace(self, labels=self.labels[rows], indices=None if everything else indices)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells sets apart, the same on every machine: '2:' and a short SHA-256 of the decoded set's own
        `sha256`, the indices, the labels and the class names."""
        indices = np.arange(len(self)) if self.indices is None else self.indices
        digest = hashlib.sha256(self.sha256.encode())
        for numbers in (indices, self.labels):
            digest.update(numbers.astype('<i4').tobytes())
        digest.update(json.dumps(self.class_names).encode())
        return f'2:{digest.hexdigest()[:16]}'

    def matches(self, fingerprint: str) -> bool:
        """Whether `fingerprint` is this set's. Checkpoints before format 2 store a SHA-256 of the chosen
        pixels themselves, without a prefix: for such a one, they are read and hashed here."""
        if ':' in fingerprint:
            return fingerprint == self.fingerprint
        if self.indices is None:
            return fingerprint == self.sha256[:16]
        alone = ImageSet.of(self.images, self.labels, self.class_names, name=self.name, split=self.split)
        return fingerprint == alone.sha256[:16]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        at = index if self.indices is None else self.indices[index]
        # a copy, because torch warns about arrays that cannot be written to
        return {'image': np.array(self.pixels[at]), 'label': int(self.labels[index])}

    def __iter__(self) -> Iterator[dict]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({} if self.file is None else {'pixels': None})

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state['pixels'] is None:
            state = state | {'pixels': np.load(state['file'], mmap_mode='r', allow_pickle=False)}
        self.__dict__.update(state)


def checksum(
    blocks: Iterable[Any],
    shape: Sequence[int],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
) -> str:
    """SHA-256, hex, of images, labels and class names.

    `blocks` are the images [N, H, W, C] in parts, contiguous arrays or bytes; `labels` are read after them.
    """
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    digest.update(np.asarray(labels, '<i4').tobytes())
    digest.update(json.dumps([list(shape), list(class_names)]).encode())
    return digest.hexdigest()
