"""Reading and checking the options that constructors declare; a failed check is one `UserError`."""

import inspect
import numbers
from collections.abc import Callable, Sequence
from typing import Any, get_args

from jaxtyping import Array

from flaxnets.errors import UserError

ImageShape = Sequence[int]


def options_of(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a constructor or function, in its order."""
    # NNX's metaclass hides a class's own signature behind (*args, **kwargs).
    declared = build.__init__ if inspect.isclass(build) else build
    parameters = inspect.signature(declared).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def one_of(option: str, value: str, choices: Any) -> None:
    """Raises a `UserError` unless `value` is one of the `typing.Literal` type `choices`."""
    if value not in get_args(choices):
        known = ', '.join(map(repr, get_args(choices)))
        raise UserError(f'model.{option}: expected one of {known}, got {value!r}')


def whole(*, at_least: int = 1, **options: int | Sequence[int]) -> None:
    """Every option is a whole number of `at_least` so much, or a sequence of them."""
    for name, value in options.items():
        given = list(value) if isinstance(value, Sequence) else [value]
        if not given or not all(isinstance(n, numbers.Integral) and n >= at_least for n in given):
            expected = 'whole numbers' if isinstance(value, Sequence) else 'a whole number'
            raise UserError(f'model.{name}: expected {expected} of at least {at_least}, got {value!r}')


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
