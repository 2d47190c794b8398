"""Writes a data set on disk, in any form, as TFDS reads it."""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.errors import UserError
from train.data.decode import fit
from train.data.download.archives import OFFICIAL
from train.data.download.write_tfds import create_builder, encode_without_tensorflow, one_line
from train.data.sources.cifar import CifarPickles
from train.data.sources.records import Records, Source
from train.progress import shown

VERSION = '1.0.0'  # of sets that TFDS does not know


def write(source: Source, name: str, data_dir: pathlib.Path) -> pathlib.Path:
    """Write all splits of the source as the TFDS set `name`, ArrayRecord, under `data_dir`.

    One of the four sets of `OFFICIAL` gets the features that TFDS's own code for it expects; any other has
    'image' and 'label'. Returns its directory. Raises UserError where there is one already.
    """
    if not re.fullmatch('[a-z][a-z0-9_]*', name):
        raise UserError(f'{name!r}: TFDS wants a name of small letters, digits and _, to begin with a letter')
    splits = {split: source.read(split) for split in source.splits}
    class_names = next(iter(splits.values())).class_names
    with one_line(name):
        if name in OFFICIAL:
            builder = create_builder(name, data_dir)
        else:
            first = next(iter(splits))
            splits[first], channels = _channels(splits[first])
            builder = _own_builder(name, class_names, channels, data_dir)
    folder = pathlib.Path(builder.data_path)
    if folder.exists():
        raise UserError(f'{folder} exists; choose another --data_dir, or delete it first')
    features = builder.info.features
    coarse = _coarse_labels(features, source)
    encode_without_tensorflow(features)
    with one_line(name), shown() as progress:
        features['label'].names = list(class_names)

        def examples(split: str) -> Iterator[tuple[int, dict]]:
            for i, (image, label) in enumerate(splits[split].items):  # TFDS orders by the hash of i
                if i % 1000 == 0:
                    progress(f'writing {name} {split}', i, splits[split].count)
                values = {'image': fit(image, None, features['image'].shape[-1]), 'label': label}
                values |= {'id': f'{split}_{i:05d}'} if 'id' in features else {}
                yield i, values | ({'coarse_label': coarse[label]} if coarse else {})

        builder._split_generators = lambda _: {split: examples(split) for split in splits}
        builder.download_and_prepare()
    return folder


def _coarse_labels(features: Any, source: Source) -> dict[int, int]:
    """The coarse label of each label of CIFAR-100; nothing for other sets."""
    if 'coarse_label' not in features:
        return {}
    if not isinstance(source, CifarPickles):
        raise UserError(
            'cifar100: expected cifar-100-python, which has the coarse labels that TFDS stores; '
            'give the set another name to do without them'
        )
    names, coarse = source.coarse()
    features['coarse_label'].names = list(names)
    return coarse


def _channels(records: Records) -> tuple[Records, int]:
    """(the same records, the channels of the first one)."""
    first = next(records.items)
    return dataclasses.replace(records, items=itertools.chain([first], records.items)), first[0].shape[-1]


def _own_builder(name: str, class_names: Sequence[str], channels: int, data_dir: pathlib.Path) -> Any:
    """A builder for a set that TFDS has no code for."""
    import tensorflow_datasets as tfds

    # The keyword keeps it out of TFDS's list of sets.
    class Builder(tfds.dataset_builders.AdhocBuilder, skip_registration=True):  # type: ignore[call-arg]
        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self, features=self._feature_spec, supervised_keys=('image', 'label')
            )

    features = {
        'image': tfds.features.Image(shape=(None, None, channels)),
        'label': tfds.features.ClassLabel(names=list(class_names)),
    }
    return Builder(
        name=name,
        version=VERSION,
        features=tfds.features.FeaturesDict(features),
        split_datasets={},
        data_dir=str(data_dir),
        file_format='array_record',
    )
