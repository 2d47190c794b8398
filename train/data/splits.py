"""`load`: from `config.data` to a decoded split, wherever the images are."""

import dataclasses
from typing import Any

import numpy as np

from flaxnets.errors import UserError
from train.data.cache import cache_folder, decoded_once
from train.data.imageset import ImageSet, held_out, rows_of, sides
from train.data.sources.locate import find
from train.data.sources.records import Source

SPLITS = ('train', 'validation', 'test')
TEST_FRACTION = 0.2  # of a set that comes as one split


def load(data: Any, split: str, *, seed: int = 0) -> ImageSet:
    """The 'train', 'validation' or 'test' split that `data` (config.data) describes, decoded.

    'validation' is the stratified share `data.validation` of the training images, drawn by `seed`; with 0
    it is the set's own validation split. A set without a test split is tested on its own validation
    split, else on a stratified fifth of its training images that nothing configures. Labels count
    through `data.classes` in the order given there.
    """
    if split not in SPLITS:
        raise UserError(f'split: expected one of {", ".join(SPLITS)}, got {split!r}')
    source = find(data)
    chosen = _classes(_split(source, data, split, seed), data.classes)
    if not len(chosen):
        raise UserError(f'{data.name} {split}: no image is left; check --config.data.classes and .validation')
    return chosen


def _split(source: Source, data: Any, split: str, seed: int) -> ImageSet:
    """The split with all its classes."""
    has = source.splits
    own_test = next((s for s in ('test', 'validation') if s in has), None)
    if split == 'test' and own_test:
        return _decoded(source, data, own_test, split)
    if split == 'validation' and not data.validation and 'validation' in has and own_test == 'test':
        return _decoded(source, data, 'validation', split)
    if split == 'validation' and not data.validation:
        raise UserError(
            f'{data.name} has no validation split of its own; hold one out with --config.data.validation=0.1'
        )
    train = _decoded(source, data, 'train' if 'train' in has else has[0], split)
    indices = np.arange(len(train))
    if own_test is None:
        tested = held_out(train.labels, TEST_FRACTION, 0)
        indices = np.flatnonzero(tested == (split == 'test'))
    if data.validation and split != 'test':
        mask = held_out(train.labels[indices], data.validation, seed)
        indices = indices[mask == (split == 'validation')]
    return train if len(indices) == len(train) else train.take(indices)


def _decoded(source: Source, data: Any, own: str, split: str) -> ImageSet:
    """The source's split `own` under the name `split`."""
    images = decoded_once(
        lambda: source.read(own),
        name=data.name,
        split=own,
        version=f'{type(source).__name__} {source.version}',
        size=sides(data.image_size),
        channels=data.channels,
        folder=cache_folder(data.cache_dir),
    )
    return dataclasses.replace(images, split=split)


def _classes(images: ImageSet, classes: Any) -> ImageSet:
    """The images of `classes` (numbers or names), labels counted through them in that order."""
    if not classes:
        return images
    names = images.class_names
    numbers = []
    for entry in classes:
        if entry in names:
            numbers.append(names.index(entry))
        elif isinstance(entry, int) and 0 <= entry < len(names):
            numbers.append(entry)
        else:
            raise UserError(f'data.classes: {entry!r} is none of {", ".join(names)} or 0..{len(names) - 1}')
    if len(set(numbers)) < len(numbers):
        raise UserError(f'data.classes: every class once, got {tuple(classes)}')
    position = np.full(len(names), -1, np.int32)
    position[numbers] = np.arange(len(numbers))
    labels = position[images.labels]
    keep = np.flatnonzero(labels >= 0)
    kept = rows_of(images.images, keep)
    chosen = [names[n] for n in numbers]
    return ImageSet.of(kept, labels[keep], chosen, name=images.name, split=images.split)
