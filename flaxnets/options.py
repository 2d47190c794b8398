"""Reading and checking the options that constructors declare."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

from flaxnets.errors import UserError


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
