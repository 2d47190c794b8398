"""Options of models and layers: declared once, as the fields of a frozen dataclass, and checked there.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MyOptions(ModelOptions):
        blocks: int = option(6, 'number of blocks', at_least=0)

A module takes its options whole: `MyModel(options, **types)`. A field may be another group of options, or
a recipe with options of its own (a layer's). The names of all groups form one flat list: these are the
options of `create_model`, of configs and of `python -m train.models`.
"""

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Array

from flaxnets.errors import UserError
from flaxnets.layers.init import Types

_KINDS = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}
_NAMES = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a word'}


@dataclasses.dataclass(frozen=True)
class Declared:
    """An option: its default, which also gives its type, its meaning and its limits.

    Where the default is None, `kind` gives the type: `int`, or `(int,)` for a sequence of them."""

    default: Any
    meaning: str = ''
    choices: tuple[str, ...] = ()
    at_least: int | None = None
    length: int | None = None
    kind: Any = None

    @property
    def several(self) -> bool:
        """Whether its value is a sequence."""
        return isinstance(self.default, tuple) or isinstance(self.kind, tuple)

    def admits(self, value: Any) -> bool:
        """Whether `value` is of the type and within the limits."""
        if value is None and self.default is None:
            return True
        if not self.several:
            return self._admits(value, self.kind or type(self.default))
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        kind = self.kind[0] if self.kind else type(self.default[0]) if self.default else object
        enough = len(value) > 0 if self.length is None else len(value) == self.length
        return enough and all(self._admits(item, kind) for item in value)

    def _admits(self, value: Any, kind: type) -> bool:
        number_like = isinstance(value, bool) and kind in (int, float)  # Python's bool is an int
        fits = isinstance(value, _KINDS.get(kind, object)) and not number_like
        fits = fits and (not self.choices or value in self.choices)
        return fits and (self.at_least is None or value >= self.at_least)

    def expected(self) -> str:
        """The words for an error message: what was expected."""
        if self.choices:
            return f'one of {", ".join(map(repr, self.choices))}'
        kind = self.kind or type(self.default)
        if self.several:
            many = 'whole numbers' if int in (self.kind or tuple(map(type, self.default))) else 'numbers'
            text = f'{self.length} {many}' if self.length else many
        else:
            text = _NAMES.get(kind, 'a value')
        return text if self.at_least is None else f'{text} of at least {self.at_least}'

    def check(self, name: str, value: Any) -> None:
        """Raises a `UserError` unless `value` is admitted."""
        if not self.admits(value):
            raise UserError(f'model.{name}: expected {self.expected()}, got {value!r}')


def option(default: Any, meaning: str, **limits: Any) -> Any:
    """A field of an options dataclass; see `Declared` for the limits."""
    return dataclasses.field(default=default, metadata={'option': Declared(default, meaning, **limits)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """A group of options. Constructing one checks its values.

    Raises:
        UserError: a value of another type or beyond the limits.
    """

    def __post_init__(self) -> None:
        for name, declared in self._own().items():
            declared.check(name, getattr(self, name))

    def _own(self) -> dict[str, Declared]:
        """The options of this group alone."""
        groups = self._groups()
        fields = [f for f in dataclasses.fields(self) if f.name not in groups]
        return {f.name: f.metadata.get('option', Declared(f.default)) for f in fields}

    def _groups(self) -> dict[str, 'Options | Recipe']:
        """The fields that are groups of options themselves."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: v for name, v in values.items() if isinstance(v, Options | Recipe)}

    def declared(self) -> dict[str, Declared]:
        """All options by name, including those of the groups inside; their values here are the defaults."""
        own = self._own().items()
        found = {name: dataclasses.replace(d, default=getattr(self, name)) for name, d in own}
        for group in self._groups().values():
            found |= group.declared()
        return found

    def changed(self, given: Mapping[str, Any]) -> Any:
        """A copy with the given values, each in the group that declares it; other names are left out."""
        changes: dict[str, Any] = {}
        for name, declared in self._own().items():
            if name in given:
                changes[name] = frozen(given[name])
                declared.check(name, changes[name])
        changes |= {name: group.changed(given) for name, group in self._groups().items()}
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """The options that every model has."""

    num_classes: int = option(10, 'logits, one per class', at_least=1)
    image_shape: Sequence[int] = option((32, 32, 3), 'height, width, channels')

    def __post_init__(self) -> None:
        super().__post_init__()
        image_shape(self.image_shape)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What builds a model or a layer: `build(*sizes, options, **types)`, or without options."""

    build: Callable[..., Any]
    options: Options | None = None

    def declared(self) -> dict[str, Declared]:
        """The options by name."""
        return {} if self.options is None else self.options.declared()

    def changed(self, given: Mapping[str, Any]) -> 'Recipe':
        """The recipe with other values for some options."""
        return self if self.options is None else Recipe(self.build, self.options.changed(given))

    def make(self, *sizes: Any, **types: Any) -> Any:
        """The module."""
        return self.build(*sizes, *(() if self.options is None else (self.options,)), **types)

    def __call__(self, **given: Any) -> Any:
        """The model with the given options; `rngs`, `dtype` and `param_dtype` among them."""
        types = {name: given.pop(name) for name in Types.__annotations__ if name in given}
        return self.changed(given).make(**types)


def recipe(build: Callable[..., Any]) -> Recipe:
    """The recipe of a user's class or function; its keyword-only parameters are the options.

    `num_classes` and `image_shape` need no default.

    Raises:
        UserError: another option without a default.
    """
    if isinstance(build, Recipe):
        return build
    parameters = inspect.signature(build.__init__ if inspect.isclass(build) else build).parameters
    usual = {f.name: f.default for f in dataclasses.fields(ModelOptions)}
    fields = []
    for name, parameter in parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY or name in Types.__annotations__:
            continue
        default = usual.get(name) if parameter.default is parameter.empty else frozen(parameter.default)
        if parameter.default is parameter.empty and name not in usual:
            raise UserError(f'model.{name}: expected a default for this option of {build.__name__}')
        fields.append((name, Any, option(default, '')))
    if not fields:
        return Recipe(build)
    made = dataclasses.make_dataclass('OwnOptions', fields, bases=(Options,), frozen=True, kw_only=True)

    @functools.wraps(build, updated=())
    def from_keywords(*sizes_and_options: Any, **types: Any) -> Any:
        *sizes, options = sizes_and_options
        return build(*sizes, **vars(options), **types)

    return Recipe(from_keywords, made())


def frozen(value: Any) -> Any:
    """Lists as tuples, at every depth."""
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def image_shape(shape: Sequence[int], *, at_least: int = 1) -> tuple[int, int, int]:
    """(height, width, channels), with both sides of `at_least` pixels."""
    whole = isinstance(shape, Sequence) and all(isinstance(n, numbers.Integral) and n > 0 for n in shape)
    if not whole or len(shape) != 3:
        raise UserError(f'model.image_shape: expected (height, width, channels), got {shape!r}')
    height, width, channels = shape
    if min(height, width) < at_least:
        raise UserError(
            f'model.image_shape: this model needs at least {at_least} x {at_least} pixels, '
            f'got {height} x {width}'
        )
    return height, width, channels


def check_images(batch: Array, shape: tuple[int, int, int]) -> None:
    """Raises a `UserError` unless the images have the shape that the model was built for."""
    if batch.shape[1:] != shape:
        raise UserError(
            f'images: expected [batch, {", ".join(map(str, shape))}], got {list(batch.shape)}; '
            'set model.image_shape'
        )
