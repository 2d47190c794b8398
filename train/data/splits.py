"""`load`: from `config.data` to decoded splits, wherever the images are."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from flaxnets.errors import UserError
from train.data.cache import cache_folder, decoded_once
from train.data.decode import sides
from train.data.imageset import ImageSet
from train.data.locate import find
from train.data.selection import of_classes, stratified, stratified_mask
from train.data.sources.records import Source

SPLITS = ('train', 'validation', 'test')
TEST_FRACTION = 0.2  # of a set that comes as one split


def load(data: Any, split: str, *, seed: int = 0) -> ImageSet:
    """The 'train', 'validation' or 'test' split that `data` (config.data) describes, decoded.

    'validation' is the stratified share `data.validation` of the training images, drawn by `seed`; with 0
    it is the set's own validation split. A set without a test split is tested on its own validation
    split, else on a stratified fifth of its training images, which no option changes. Labels follow
    the order of `data.classes`. `data.limit`, for test images `data.test_limit` if it is set, is the largest
    number of images, each class in proportion, the same for every seed.

    Raises UserError if the data are not found, and for training images of a single class.
    """
    return load_splits(data, [split], seed=seed)[split]


def load_splits(data: Any, splits: Iterable[str], *, seed: int = 0) -> dict[str, ImageSet]:
    """`load` for several splits at once: what two of them share is decoded and verified once."""
    for split in splits:
        if split not in SPLITS:
            raise UserError(f'split: expected one of {", ".join(SPLITS)}, got {split!r}')
    source = find(data)
    stored = {split: _stored(source.splits, data, split) for split in splits}
    decoded = {own: _decoded(source, data, own) for own in dict.fromkeys(stored.values())}
    return {
        split: dataclasses.replace(
            _chosen(decoded[own], source.splits, data, split, seed),
            origin=_origin(source.splits, data, split, source.where(own)),
        )
        for split, own in stored.items()
    }


def _own_test(has: tuple[str, ...]) -> str | None:
    """The source's split to test on, if it has one."""
    return next((split for split in ('test', 'validation') if split in has), None)


def _is_part_of_train(has: tuple[str, ...], data: Any, split: str) -> bool:
    """Whether `split` is taken out of the source's training images."""
    if split == 'validation':
        return bool(data.validation)
    return split == 'train' or _own_test(has) is None


def _stored(has: tuple[str, ...], data: Any, split: str) -> str:
    """The source's own split whose images `split` are, or are part of."""
    if _is_part_of_train(has, data, split):
        training = [own for own in has if own not in ('validation', 'test')]
        if not training:
            raise UserError(
                f'{data.name} has {" and ".join(has)} images, but none to train on; '
                'point --config.data.data_dir to a folder that has them'
            )
        return 'train' if 'train' in training else training[0]
    if split == 'validation' and not ('validation' in has and _own_test(has) == 'test'):
        raise UserError(
            f'{data.name} has no validation split of its own; make one with --config.data.validation=0.1'
        )
    return 'validation' if split == 'validation' else str(_own_test(has))


def _decoded(source: Source, data: Any, own: str) -> ImageSet:
    """All images of the source's split `own`."""
    return decoded_once(
        lambda: source.read(own),
        name=data.name,
        split=own,
        version=f'{type(source).__name__} {source.version}',
        size=sides(data.image_size),
        channels=data.channels,
        folder=cache_folder(data.cache_dir),
    )


def _origin(has: tuple[str, ...], data: Any, split: str, where: str) -> str:
    """In words, which of the images that lie at `where` are `split`."""
    if not _is_part_of_train(has, data, split):
        return where
    shares = {
        'test': '' if _own_test(has) else f'a stratified {TEST_FRACTION:.0%}',
        'validation': f'a stratified {data.validation:.0%}' if data.validation else '',
    }
    if split != 'train':
        return f'{shares[split]} of {where}'
    others = ' and '.join(f'those for {other}' for other, share in shares.items() if share)
    origin = f'{where}, all but {others}' if others else where
    unused = 'validation' in has and _own_test(has) == 'test'
    return f'{origin}; its validation images are not used' if unused else origin


def _chosen(images: ImageSet, has: tuple[str, ...], data: Any, split: str, seed: int) -> ImageSet:
    """The images of `split` among the decoded ones: one index array for split, classes and limit."""
    labels, names = images.labels, images.class_names
    indices = np.arange(len(labels))
    if _is_part_of_train(has, data, split):
        if _own_test(has) is None:
            indices = np.flatnonzero(stratified_mask(labels, TEST_FRACTION, 0) == (split == 'test'))
        if data.validation and split != 'test':
            mask = stratified_mask(labels[indices], data.validation, seed)
            indices = indices[mask == (split == 'validation')]
    labels = labels[indices]
    if data.classes:
        kept, labels, names = of_classes(labels, names, data.classes)
        indices = indices[kept]
    limit = (data.test_limit if split == 'test' else 0) or data.limit
    if 0 < limit < len(indices):
        kept = stratified(labels, limit)
        indices, labels = indices[kept], labels[kept]
    if not len(indices):
        raise UserError(f'{data.name} {split}: no image is left; check --config.data.classes and .validation')
    if split == 'train' and len(present := np.unique(labels)) == 1:
        raise UserError(
            f'{data.name}: expected at least two classes, but all training images are {names[present[0]]!r}; '
            'check data.data_dir (the folder above the classes), data.classes and data.limit'
        )
    return dataclasses.replace(images.take(indices), labels=labels, class_names=names, split=split)
