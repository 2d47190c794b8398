"""MNIST's and Fashion-MNIST's idx files, as their publishers and torchvision store them."""

import gzip
import math
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from flaxnets.errors import UserError
from train.data.sources.names import CLASS_NAMES
from train.data.sources.records import FETCH_AGAIN, Records, check_labels
from train.data.sources.set_folder import TorchvisionFolder


class IdxFiles(TorchvisionFolder):
    """`MNIST/raw` or `FashionMNIST/raw`: big-endian idx files, gzipped or not.

    Source: Y. LeCun, C. Cortes, C. Burges, the MNIST database's description of its file format.
    """

    FOLDERS: ClassVar = {'mnist': 'MNIST/raw', 'fashion_mnist': 'FashionMNIST/raw'}
    STEMS: ClassVar = {'train': 'train', 'test': 't10k'}

    @classmethod
    def _is_set(cls, folder: pathlib.Path, name: str) -> bool:
        return any(folder.glob('train-images-idx3-ubyte*'))

    def _files(self) -> Iterator[pathlib.Path]:
        return self.folder.glob('*-ubyte*')

    def read(self, split: str) -> Records:
        """The records of a split in the order of its files."""
        image_file, label_file = (self._file(split, kind) for kind in ('images-idx3', 'labels-idx1'))
        images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if len(images) != len(labels):
            raise UserError(
                f'{label_file}: expected {len(images)} labels as in {image_file}, got {len(labels)}; '
                f'{FETCH_AGAIN}'
            )
        check_labels(labels, 10, str(label_file))
        items = zip(images[..., None], map(int, labels), strict=True)
        return Records(len(labels), items, CLASS_NAMES[self.name], str(image_file))

    def _file(self, split: str, kind: str) -> pathlib.Path:
        file = self.folder / f'{self.STEMS[split]}-{kind}-ubyte'
        for candidate in (file, file.with_name(file.name + '.gz')):
            if candidate.exists():
                return candidate
        raise UserError(f'{file} is missing, gzipped or not; fetch the data set again')


def _blocks(stream: Any, limit: int) -> Iterator[bytes]:
    """What is left of a stream, at most `limit` bytes of it."""
    while limit and (block := stream.read(min(limit, 2**20))):
        limit -= len(block)
        yield block


def read_idx(file: pathlib.Path, dimensions: int) -> np.ndarray:
    """The uint8 array in an idx file, which is gzipped if its name ends in .gz."""
    opening: Callable = gzip.open if file.suffix == '.gz' else open
    expected = 0x800 + dimensions
    try:
        with opening(file, 'rb') as stream:
            head = stream.read(4 + 4 * dimensions)
            magic, *shape = struct.unpack(f'>{1 + dimensions}I', head)
            if magic != expected:
                raise UserError(
                    f'{file}: expected the magic number {expected:#06x}, got {magic:#06x}; {FETCH_AGAIN}'
                )
            if not (size := math.prod(shape)):
                raise UserError(
                    f'{file}: expected images or labels, got an array of shape {shape}; {FETCH_AGAIN}'
                )
            # Block by block: a wrong size in the header must not allocate memory.
            data = b''.join(_blocks(stream, size + 1))
    except UserError:
        raise
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise UserError(f'{file}: truncated or damaged ({error}); {FETCH_AGAIN}') from error
    if len(data) != size:
        got = 'more' if len(data) > size else len(data)
        raise UserError(f'{file}: expected {size} bytes after its header, got {got}; {FETCH_AGAIN}')
    return np.frombuffer(data, np.uint8).reshape(shape)
