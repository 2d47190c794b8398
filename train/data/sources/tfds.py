"""TFDS's prepared directories, read without TensorFlow: ArrayRecord through TFDS, TFRecord through grain."""

import functools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from flaxnets.errors import UserError
from train.data.decode import decode
from train.data.sources.names import CLASS_NAMES
from train.data.sources.records import Records
from train.data.sources.set_folder import SetFolder

BLOCK = 512  # records read at a time


class TfdsDirectory(SetFolder):
    """A directory `<name>/[<config>/]<version>` with dataset_info.json, features.json and record files."""

    def __init__(self, folder: pathlib.Path, name: str):
        super().__init__(folder, name)
        found = _name_of(folder)
        if found != name.split('/')[0]:
            raise UserError(
                f'{folder} contains the TFDS set {found!r}, not {name!r}; '
                f'set --config.data.name={found} or point --config.data.data_dir elsewhere'
            )

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds  # defines absl flags and takes a second

        try:
            return tfds.builder_from_directory(self.folder)
        except Exception as error:
            raise UserError(
                f'{self.folder}: TFDS cannot open it ({_line(error)}); prepare it again'
            ) from error

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that dataset_info.json lists."""
        return tuple(self._builder.info.splits)

    def read(self, split: str) -> Records:
        """The records of a split, in the order TFDS stores them."""
        image, label = self._keys()
        info = self._builder.info
        names = tuple(info.features[label].names)
        if names == tuple(map(str, range(len(names)))):  # prepared without the names
            names = CLASS_NAMES.get(self.name, names)
        items = self._items(split, image, label)
        return Records(info.splits[split].num_examples, items, names, str(self.folder))

    def _keys(self) -> tuple[str, str]:
        """The names of the features with the image and its class."""
        import tensorflow_datasets as tfds

        info = self._builder.info
        keys = info.supervised_keys or (None, None)
        kinds = (tfds.features.Image, tfds.features.ClassLabel)
        found = []
        for key, kind in zip(keys, kinds, strict=True):
            of_kind = [name for name, feature in info.features.items() if isinstance(feature, kind)]
            if key in of_kind:
                found.append(key)
            elif len(of_kind) == 1:
                found.append(of_kind[0])
            else:
                raise UserError(
                    f'{self.folder}: expected one {kind.__name__} feature, got {of_kind or "none"}: '
                    'not an image classification set'
                )
        return found[0], found[1]

    def _items(self, split: str, image: str, label: str) -> Iterator[tuple[np.ndarray, int]]:
        from tensorflow_datasets.proto import tf_example_pb2

        for i, record in enumerate(self._raw(split)):
            where = f'{self.folder} ({split} record {i})'
            try:
                features = tf_example_pb2.Example.FromString(record).features.feature
                encoded, number = features[image].bytes_list.value[0], features[label].int64_list.value[0]
            except Exception as error:
                raise UserError(f'{where}: damaged ({_line(error)}); prepare the set again') from error
            # TFDS's own decoding takes four times as long
            yield decode(encoded, where), number

    def _raw(self, split: str) -> Iterator[bytes]:
        reading = {'array_record': self._array_records, 'tfrecord': self._tf_records}
        format = self._builder.info.file_format.file_suffix
        if format not in reading:
            raise UserError(f'{self.folder}: expected array_record or tfrecord files, got {format}')
        try:
            yield from reading[format](split)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f'{self.folder}: its {split} files are missing, truncated or damaged ({_line(error)}); '
                'prepare the set again'
            ) from error

    def _array_records(self, split: str) -> Iterator[bytes]:
        import tensorflow_datasets as tfds

        source = self._builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        for start in range(0, len(source), BLOCK):
            yield from source.__getitems__(list(range(start, min(start + BLOCK, len(source)))))

    def _tf_records(self, split: str) -> Iterator[bytes]:
        from grain.experimental import TFRecordIterDataset

        for path in self._builder.info.splits[split].filepaths:
            yield from TFRecordIterDataset(str(path))


def find_directory(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """The newest version of the TFDS set `name` ('set', 'set/config', 'set:1.0.0') under `root`, if any.

    `root` may also be the directory of the set or of one version of it.
    """
    name, _, version = name.partition(':')
    if (root / 'dataset_info.json').exists():
        return root
    for folder in (root / name, root):
        found = [path.parent for path in folder.glob(f'{version or "*"}/dataset_info.json')]
        if not found and '/' not in name:
            found = [path.parent for path in folder.glob(f'*/{version or "*"}/dataset_info.json')]
            configs = sorted({path.parent.name for path in found if path.parent.parent.name == name})
            if len(configs) > 1:
                raise UserError(
                    f'{folder} contains the configs {", ".join(configs)}; '
                    f'choose one with --config.data.name={name}/{configs[0]}'
                )
            found = found if folder.name == name else []
        found = [path for path in found if _name_of(path) == name.split('/')[0]]
        if found:
            return max(found, key=lambda path: [int(part) for part in re.findall(r'\d+', path.name)])
    return None


def _name_of(folder: pathlib.Path) -> str:
    file = folder / 'dataset_info.json'
    try:
        return json.loads(file.read_text())['name']
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f'{file}: not readable ({_line(error)}); prepare the set again') from error


def _line(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.split('\n')[0][:200]
