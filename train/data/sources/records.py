"""What every source of images looks like to `load`: named splits of decoded records."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from flaxnets.errors import UserError
from train import memory
from train.data.decode import fit
from train.data.imageset import ImageSet

FETCH_AGAIN = 'delete it and fetch the data set again'


@dataclasses.dataclass(frozen=True)
class Records:
    """`count` pairs of an image [H, W, C] uint8 and its label, read once; `file` is what an error names."""

    count: int
    items: Iterator[tuple[np.ndarray, int]]
    class_names: tuple[str, ...]
    file: str


class Source(Protocol):
    """Where an image set comes from: a TFDS directory, torchvision's files, a folder of images."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it has, of 'train', 'validation' and 'test' (and others of its own)."""

    @property
    def version(self) -> str:
        """Changes when its files change: part of the cache's key."""

    def where(self, split: str) -> str:
        """In words: where the images of one of `splits` are, and which files were not read."""

    def read(self, split: str) -> Records:
        """The records of one of `splits`."""


def files_version(files: Iterable[pathlib.Path], root: pathlib.Path | None = None) -> str:
    """A digest of the files' paths, sizes and times of change: if a file was replaced, the set is decoded
    again.

    `root` is the folder below which a path tells the class, if it does.
    """
    digest = hashlib.sha256(str(root.resolve() if root else '').encode(errors='surrogateescape'))
    for file in sorted(files):
        state = file.stat()
        text = f'{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n'
        digest.update(text.encode(errors='surrogateescape'))
    return digest.hexdigest()[:16]


def printable(name: str) -> str:
    r"""A file's name with bytes that are no UTF-8 written as \xe9, so that it can be printed and stored."""
    return name.encode(errors='surrogateescape').decode(errors='backslashreplace')


def check_labels(labels: np.ndarray, classes: int, file: str) -> None:
    """Raise UserError unless every label is in 0..classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f'{file}: label {labels[wrong[0]]} of image {wrong[0]} is not in 0..{classes - 1}; '
            'the file is damaged or of another data set: fetch it again'
        )


def in_memory(
    records: Records, size: tuple[int, int] | None, channels: int, *, name: str, split: str
) -> ImageSet:
    """The records as a set in memory, at `size` and with `channels`. Raises UserError if it does not fit."""
    images, labels = fitted(records, size, channels)
    first = next(images)
    needed, free = records.count * first.nbytes, memory.available()
    if needed > free:
        raise UserError(
            f'{name} {split}: {records.count:,} images of {_shape(first.shape)} take '
            f'{memory.megabytes(needed)}, and {memory.megabytes(free)} of memory are free; '
            'lower --config.data.image_size, or point --config.data.cache_dir to a disk with room for them'
        )
    stacked = np.stack([first, *images])
    check_labels(np.asarray(labels), len(records.class_names), records.file)
    return ImageSet.of(stacked, np.asarray(labels), records.class_names, name=name, split=split)


def fitted(
    records: Records, size: tuple[int, int] | None, channels: int
) -> tuple[Iterator[np.ndarray], list[int]]:
    """The records' images, all of one shape, and a list to which their labels are added meanwhile."""
    labels: list[int] = []

    def images() -> Iterator[np.ndarray]:
        shape = None
        for image, label in records.items:
            fitted = fit(image, size, channels)
            shape = shape or fitted.shape
            if fitted.shape != shape:
                same_size = fitted.shape[:2] == shape[:2]
                option = f'channels={shape[2]}' if same_size else f'image_size={shape[0]}'
                raise UserError(
                    f'{records.file}: image {len(labels)} is {_shape(fitted.shape)}, the ones before it '
                    f'{_shape(shape)}; bring all to one with --config.data.{option}'
                )
            labels.append(label)
            yield fitted
        if len(labels) != records.count or not labels:
            expected = records.count or 'at least 1'
            raise UserError(f'{records.file}: expected {expected} images, got {len(labels)}; fetch it again')

    return images(), labels


def _shape(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape))
