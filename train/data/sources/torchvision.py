"""The files torchvision's data sets leave behind, read without torch: CIFAR's pickles, MNIST's idx files."""

import gzip
import math
import pathlib
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy._core import multiarray

from flaxnets.errors import UserError
from train.data.sources.names import CLASS_NAMES
from train.data.sources.records import Records, check_labels, files_version

AGAIN = 'delete it and fetch the data set again'


class ArraysOnly(pickle.Unpickler):
    """Unpickles containers, bytes and numpy arrays and refuses every other name: pickles can run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle names, if it belongs to an array."""
        package, _, rest = module.partition('.')
        if (
            package == 'numpy'
            and name in ('ndarray', 'dtype')
            and rest in ('', 'core.multiarray', '_core.multiarray')
        ):
            return getattr(np, name)
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray') and name == '_reconstruct':
            return multiarray._reconstruct
        if (module, name) == ('_codecs', 'encode'):
            return lambda text, encoding: text.encode({'latin1': 'latin1', 'latin-1': 'latin1'}[encoding])
        raise pickle.UnpicklingError(f'it asks for {module}.{name}, which no array needs')


class CifarPickles:
    """`cifar-10-batches-py` or `cifar-100-python`: rows of 3,072 bytes, all red, then green, then blue.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and its web page.
    """

    FOLDERS: ClassVar = {'cifar10': 'cifar-10-batches-py', 'cifar100': 'cifar-100-python'}
    FILES: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {
        'cifar10': {'train': tuple(f'data_batch_{n}' for n in range(1, 6)), 'test': ('test_batch',)},
        'cifar100': {'train': ('train',), 'test': ('test',)},
    }
    META: ClassVar = {'cifar10': ('batches.meta', 'label_names'), 'cifar100': ('meta', 'fine_label_names')}
    LABELS: ClassVar = {'cifar10': 'labels', 'cifar100': 'fine_labels'}
    splits = ('train', 'test')

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder = folder
        self.name = name

    @classmethod
    def find(cls, root: pathlib.Path, name: str) -> 'CifarPickles | None':
        """The set under `root`, which may be its folder itself."""
        if name in cls.FOLDERS:
            for folder in (root / cls.FOLDERS[name], root):
                if (folder / cls.META[name][0]).is_file():
                    return cls(folder, name)
        return None

    @property
    def version(self) -> str:
        """A digest of the folder's files."""
        return files_version(path for path in self.folder.iterdir() if path.is_file())

    def read(self, split: str) -> Records:
        """The records of a split in the order of its files."""
        file, key = self.META[self.name]
        names = _load(self.folder / file, {key: list})[key]
        class_names = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
        batches = [self._batch(self.folder / file, len(names)) for file in self.FILES[self.name][split]]
        count = sum(len(labels) for _, labels in batches)
        items = (
            (np.ascontiguousarray(row.reshape(3, 32, 32).transpose(1, 2, 0)), int(label))
            for rows, labels in batches
            for row, label in zip(rows, labels, strict=True)
        )
        return Records(count, items, class_names, str(self.folder))

    def _batch(self, file: pathlib.Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows [N, 3072] uint8, labels [N]) of one file."""
        key = self.LABELS[self.name]
        content = _load(file, {'data': np.ndarray, key: list})
        rows, labels = content['data'], content[key]
        if (
            rows.dtype != np.uint8
            or rows.shape != (len(labels), 3072)
            or not all(type(x) is int for x in labels)
        ):
            raise UserError(
                f'{file}: expected {len(labels)} rows of 3072 uint8 and as many integers, '
                f'got {rows.shape} {rows.dtype}; {AGAIN}'
            )
        check_labels(np.asarray(labels), classes, str(file))
        return rows, np.asarray(labels)


def _load(file: pathlib.Path, expected: dict[str, Any]) -> dict[str, Any]:
    """The dictionary pickled in `file`, which has the `expected` keys and types."""
    try:
        with file.open('rb') as stream:
            content = ArraysOnly(stream, encoding='bytes').load()
    except FileNotFoundError as error:
        raise UserError(f'{file} is missing; fetch the data set again') from error
    except Exception as error:
        line = f'{error}'.split('\n')[0] or type(error).__name__
        raise UserError(f'{file}: truncated or not a pickle of arrays ({line}); {AGAIN}') from error
    if isinstance(content, dict):
        content = {k.decode('latin1') if isinstance(k, bytes) else k: v for k, v in content.items()}
        if all(isinstance(content.get(key), kind) for key, kind in expected.items()):
            return content
    raise UserError(f'{file}: expected a dictionary with {", ".join(expected)}; {AGAIN}')


class IdxFiles:
    """`MNIST/raw` or `FashionMNIST/raw`: big-endian idx files, gzipped or not.

    Source: Y. LeCun, C. Cortes, C. Burges, the MNIST database's description of its file format.
    """

    FOLDERS: ClassVar = {'mnist': 'MNIST/raw', 'fashion_mnist': 'FashionMNIST/raw'}
    STEMS: ClassVar = {'train': 'train', 'test': 't10k'}
    splits = ('train', 'test')

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder = folder
        self.name = name

    @classmethod
    def find(cls, root: pathlib.Path, name: str) -> 'IdxFiles | None':
        """The set under `root`, which may be its folder itself."""
        if name in cls.FOLDERS:
            for folder in (root / cls.FOLDERS[name], root / 'raw', root):
                if any(folder.glob('train-images-idx3-ubyte*')):
                    return cls(folder, name)
        return None

    @property
    def version(self) -> str:
        """A digest of the folder's files."""
        return files_version(self.folder.glob('*-ubyte*'))

    def read(self, split: str) -> Records:
        """The records of a split in the order of its files."""
        image_file, label_file = (self._file(split, kind) for kind in ('images-idx3', 'labels-idx1'))
        images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if len(images) != len(labels):
            raise UserError(
                f'{label_file}: expected {len(images)} labels as in {image_file}, got {len(labels)}; {AGAIN}'
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
                    f'{file}: expected the magic number {expected:#06x}, got {magic:#06x}; {AGAIN}'
                )
            if not (size := math.prod(shape)):
                raise UserError(f'{file}: expected images or labels, got an array of shape {shape}; {AGAIN}')
            # Block by block: a header that claims too much must not become memory.
            data = b''.join(_blocks(stream, size + 1))
    except UserError:
        raise
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise UserError(f'{file}: truncated or damaged ({error}); {AGAIN}') from error
    if len(data) != size:
        got = 'more' if len(data) > size else len(data)
        raise UserError(f'{file}: expected {size} bytes after its header, got {got}; {AGAIN}')
    return np.frombuffer(data, np.uint8).reshape(shape)
