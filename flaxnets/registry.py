"""The table of models: names to constructors, in the documents' order.

A new architecture is one line here and one file beside this one.
"""

import dataclasses
import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from flaxnets.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model: `build(**options)` makes it; `fixed` are options that its name stands for."""

    build: Callable[..., nnx.Module]
    document: str
    meaning: str
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)

    def options(self) -> dict[str, inspect.Parameter]:
        """The options a user may set, with their defaults."""
        parameters = inspect.signature(self.build).parameters
        return {name: p for name, p in parameters.items() if name not in {'rngs', *self.fixed}}


MODELS: dict[str, Entry] = {}


def register(
    name: str, build: Callable[..., nnx.Module], *, document: str, meaning: str, **fixed: Any
) -> None:
    """Adds a model of your own under `name`, so that configs and `create_model` know it."""
    MODELS[name] = Entry(build, document, meaning, fixed)


def list_models(pattern: str = '*') -> list[str]:
    """Names of the registered models that match a shell pattern, in the documents' order.

    >>> list_models('branching*')
    ['branching_all', 'branching_random', 'branching_spatial', 'branching_attn']
    """
    return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]


def near(name: str, names: Iterable[str]) -> str:
    """' Did you mean ...?' with the nearest names, or the choices where none is near."""
    names = list(names)
    matches = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f'Did you mean {" or ".join(matches)}?' if matches else f'Known: {", ".join(names)}.'


def entry(name: str) -> Entry:
    """The table's row for `name`; a `UserError` with near matches if there is none."""
    if name not in MODELS:
        raise UserError(f'model.name: there is no model {name!r}. {near(name, MODELS)}')
    return MODELS[name]


def create_model(name: str, *, rngs: nnx.Rngs, **options: Any) -> nnx.Module:
    """Builds a registered model.

    Args:
        name: one of `list_models()`.
        rngs: the initial values' random streams, `nnx.Rngs(0)`; the model keeps none of it.
        **options: the model's own, `num_classes` and `image_shape` (height, width, channels) among
            them; `python -m train.models NAME` lists them.

    Returns:
        The model in training mode: `model(images, rngs=...)`, [B, H, W, C] to [B, num_classes].

    Raises:
        UserError: an unknown name or option, or a value the model cannot have.
    """
    known = entry(name)
    for option in options:
        if option not in known.options():
            raise UserError(f'model.{option}: {name} has no such option. {near(option, known.options())}')
    return known.build(**known.fixed, **options, rngs=rngs)


def count_parameters(model: nnx.Module, *, published: bool = False) -> int:
    """Number of trained values; with `published`, plus those the original allocates and never uses
    (see `unused_parameters` in `layers/nearest.py`), which the documents' counts include."""
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    if published:
        count += sum(getattr(module, 'unused_parameters', 0) for _, module in nnx.iter_modules(model))
    return count
