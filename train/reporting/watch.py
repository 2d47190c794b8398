"""The inside of a model: arguments and results of a layer's method while the model computes."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

# One fixed random key, as in every evaluation.
KEY = 0


def calls(
    model: nnx.Module, images: Float[Array, 'batch height width channels'], kind: type, method: str
) -> list[tuple[tuple[Any, ...], Any]]:
    """(arguments, result) of every call of `kind.method` while `model` computes `images`, in order.

    One list entry for each layer of that kind; empty where the model has none. Compiled as one program.
    """
    if not any(isinstance(module, kind) for _, module in nnx.iter_modules(model)):
        return []
    graph, state = nnx.split(model)

    @jax.jit
    def compute(state: Any, images: Array) -> list[tuple[tuple[Any, ...], Any]]:
        seen: list[tuple[tuple[Any, ...], Any]] = []
        with recorded(kind, method, seen):
            key = jax.random.key(KEY)
            nnx.merge(graph, state)(images, rngs=nnx.Rngs(candidates=key, dropout=key))
        return seen

    return compute(state, images)


@contextlib.contextmanager
def recorded(kind: type, method: str, seen: list[tuple[tuple[Any, ...], Any]]) -> Iterator[None]:
    """Inside, calls of `kind.method` are added to `seen`."""
    original = getattr(kind, method)

    @functools.wraps(original)
    def noting(self: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, *arguments, **options)
        seen.append((arguments, result))
        return result

    setattr(kind, method, noting)
    try:
        yield
    finally:
        setattr(kind, method, original)
