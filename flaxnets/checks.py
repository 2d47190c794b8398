"""Checks that several models make of their options and images; each failure is one `UserError`."""

import numbers
from collections.abc import Collection, Sequence

from jaxtyping import Array

from flaxnets.errors import UserError

ImageShape = Sequence[int]


def whole(*, at_least: int = 1, **options: int | Sequence[int]) -> None:
    """Every option is a whole number of `at_least` so much, or a sequence of them."""
    for name, value in options.items():
        given = list(value) if isinstance(value, Sequence) else [value]
        if not given or not all(isinstance(n, numbers.Integral) and n >= at_least for n in given):
            expected = 'whole numbers' if isinstance(value, Sequence) else 'a whole number'
            raise UserError(f'model.{name}: expected {expected} of at least {at_least}, got {value!r}')


def choice(choices: Collection[str], **option: str) -> None:
    """The option is one of the names in `choices`."""
    for name, value in option.items():
        if value not in choices:
            raise UserError(f'model.{name}: expected {" or ".join(choices)}, got {value!r}')


def image_shape(shape: ImageShape, *, at_least: int = 1) -> tuple[int, int, int]:
    """(height, width, channels), with both sides `at_least` so many pixels."""
    whole(image_shape=shape)
    if len(shape) != 3:
        raise UserError(f'model.image_shape: expected (height, width, channels), got {tuple(shape)}')
    height, width, channels = shape
    if min(height, width) < at_least:
        raise UserError(
            f'model.image_shape: this model needs at least {at_least} x {at_least} pixels, '
            f'got {height} x {width}'
        )
    return height, width, channels


def images(batch: Array, shape: tuple[int, int, int]) -> None:
    """The batch holds images of the shape the model was built for."""
    if batch.shape[1:] != shape:
        raise UserError(
            f'images: expected [batch, {", ".join(map(str, shape))}], got {list(batch.shape)}; '
            'set model.image_shape'
        )
