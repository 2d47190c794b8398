"""flaxnets: small vision networks in Flax NNX that compute what their PyTorch originals compute."""

import importlib
from typing import TYPE_CHECKING, Any

from flaxnets.errors import UserError

if TYPE_CHECKING:
    from flaxnets import interop, registry  # noqa: F401
    from flaxnets.registry import count_parameters, create_model, list_models, register

__all__ = ['UserError', 'count_parameters', 'create_model', 'interop', 'list_models', 'register']


def __getattr__(name: str) -> Any:
    """Imports the rest when it is first used: JAX takes a second, which a command's --help does not need."""
    if name in ('interop', 'registry'):
        return importlib.import_module(f'flaxnets.{name}')
    if name in __all__:
        return getattr(importlib.import_module('flaxnets.registry'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
