"""CIFAR-10 and CIFAR-100, as their publisher stores them: as pickles, which torchvision keeps, or binary.

In both an image is a row of 3,072 bytes, all red, then all green, then all blue.
Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and its web page.
"""

import pathlib
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy._core import multiarray

from flaxnets.errors import UserError
from train.data.sources.records import FETCH_AGAIN, Records, check_labels
from train.data.sources.set_folder import TorchvisionFolder

SHAPE = (3, 32, 32)  # of a row
ROW = 3072


def unpack(rows: np.ndarray) -> np.ndarray:
    """[N, 32, 32, 3] of rows [N, 3072]."""
    return rows.reshape(-1, *SHAPE).transpose(0, 2, 3, 1)


def read_binary(data: bytes, classes: Sequence[int], file: str) -> tuple[np.ndarray, np.ndarray]:
    """(images [N, 32, 32, 3], labels [N, kinds]) of a binary file, whose rows begin with a byte for each kind
    of label; `classes` says how many each kind has."""
    width = len(classes) + ROW
    if not data or len(data) % width:
        raise UserError(f'{file}: expected rows of {width} bytes, got {len(data)} bytes; {FETCH_AGAIN}')
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    labels = rows[:, : len(classes)].astype(np.int32)
    for kind, count in enumerate(classes):
        check_labels(labels[:, kind], count, file)
    return unpack(rows[:, len(classes) :]), labels


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


class CifarPickles(TorchvisionFolder):
    """`cifar-10-batches-py` or `cifar-100-python`, the folders that torchvision unpacks."""

    FOLDERS: ClassVar = {'cifar10': 'cifar-10-batches-py', 'cifar100': 'cifar-100-python'}
    FILES: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {
        'cifar10': {'train': tuple(f'data_batch_{n}' for n in range(1, 6)), 'test': ('test_batch',)},
        'cifar100': {'train': ('train',), 'test': ('test',)},
    }
    META: ClassVar = {'cifar10': ('batches.meta', 'label_names'), 'cifar100': ('meta', 'fine_label_names')}
    LABELS: ClassVar = {'cifar10': 'labels', 'cifar100': 'fine_labels'}

    @classmethod
    def _is_set(cls, folder: pathlib.Path, name: str) -> bool:
        return (folder / cls.META[name][0]).is_file()

    def read(self, split: str) -> Records:
        """The records of a split in the order of its files."""
        file, key = self.META[self.name]
        names = _load(self.folder / file, {key: list})[key]
        class_names = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
        batches = [self._batch(self.folder / file, len(names)) for file in self.FILES[self.name][split]]
        count = sum(len(labels) for _, labels in batches)
        items = (
            (image, int(label))
            for rows, labels in batches
            for image, label in zip(unpack(rows), labels, strict=True)
        )
        return Records(count, items, class_names, str(self.folder))

    def coarse(self) -> tuple[tuple[str, ...], dict[int, int]]:
        """Of CIFAR-100: (the names of the coarse labels, the coarse label of each label)."""
        names = _load(self.folder / 'meta', {'coarse_label_names': list})['coarse_label_names']
        labels = _load(self.folder / 'train', {'fine_labels': list, 'coarse_labels': list})
        coarse = dict(zip(labels['fine_labels'], labels['coarse_labels'], strict=True))
        return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names), coarse

    def _batch(self, file: pathlib.Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows [N, 3072] uint8, labels [N]) of one file."""
        key = self.LABELS[self.name]
        content = _load(file, {'data': np.ndarray, key: list})
        rows, labels = content['data'], content[key]
        if (
            rows.dtype != np.uint8
            or rows.shape != (len(labels), ROW)
            or not all(type(x) is int for x in labels)
        ):
            raise UserError(
                f'{file}: expected {len(labels)} rows of {ROW} uint8 and as many integers, '
                f'got {rows.shape} {rows.dtype}; {FETCH_AGAIN}'
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
        raise UserError(f'{file}: truncated or not a pickle of arrays ({line}); {FETCH_AGAIN}') from error
    if isinstance(content, dict):
        content = {k.decode('latin1') if isinstance(k, bytes) else k: v for k, v in content.items()}
        if all(isinstance(content.get(key), kind) for key, kind in expected.items()):
            return content
    raise UserError(f'{file}: expected a dictionary with {", ".join(expected)}; {FETCH_AGAIN}')
