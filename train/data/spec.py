"""Classes and shape of a data set without its images: enough to build a model for them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxnets.errors import UserError
from flaxnets.interop.model_card import ModelCard
from train.data.decode import sides
from train.data.selection import of_classes
from train.data.sources.names import CLASS_NAMES, DIGITS

NAMES = {**CLASS_NAMES, 'digits': DIGITS}
COUNTS = {'cifar100': 100}  # whose names are in its files alone
SHAPES = {
    'cifar10': (32, 32, 3),
    'cifar100': (32, 32, 3),
    'mnist': (28, 28, 1),
    'fashion_mnist': (28, 28, 1),
    'digits': (8, 8, 1),
}


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The name, classes and (height, width, channels) of a set of images. Numbers stand for classes whose
    names are not known."""

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]


def numbers(count: int) -> tuple[str, ...]:
    """Names for `count` classes that have no others."""
    return tuple(map(str, range(count)))


def of_card(card: ModelCard) -> ImageSpec | None:
    """What the images of a card's model are like; None if it does not say."""
    shape, count = card.options.get('image_shape'), card.options.get('num_classes')
    names = card.preprocessing.get('class_names')
    if not (isinstance(shape, tuple) and len(shape) == 3 and isinstance(count, int)):
        return None
    return ImageSpec('', names or numbers(count), shape)


def spec(data: Any, *, classes: int | Sequence[str] = (), like: ImageSpec | None = None) -> ImageSpec | None:
    """What `config.data` says of its images; None if it does not say how many classes they have.

    Args:
        data: config.data.
        classes: their number or names, if these are given; else those that the set is known to have.
        like: used for what neither says.

    Raises:
        UserError: nothing says the images' shape.
    """
    name = data.name.partition(':')[0]
    if classes:
        names = numbers(classes) if isinstance(classes, int) else tuple(classes)
    elif name in NAMES:
        names = NAMES[name]
        if data.classes:
            names = of_classes(np.zeros(0, np.int32), names, data.classes)[-1]
    elif name in COUNTS:
        names = tuple(map(str, data.classes)) or numbers(COUNTS[name])
    elif like is not None:
        names = like.class_names
    else:
        return None
    stored = SHAPES.get(name) or (like.image_shape if like else None)
    size = sides(data.image_size) or (stored or ())[:2]
    channels = data.channels or (stored or (0, 0, 0))[2]
    if not size or not channels:
        raise UserError(
            'data.image_size: expected one, and data.channels=1 or 3: without them nothing says how large '
            f'the images of {data.name} are'
        )
    return ImageSpec(data.name, names, (*size, channels))
