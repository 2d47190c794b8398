"""The inside of a model: arguments and results of a layer's method while the model computes."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import depth

# One fixed random key, as in every evaluation.
KEY = 0


def calls(
    model: nnx.Module, images: Float[Array, 'batch height width channels'], kind: type, method: str
) -> list[tuple[Any, tuple[Any, ...], Any]]:
    """(layer, arguments, result) of every call of `kind.method` while `model` computes `images`, in order.

    One list entry for each layer of that kind; empty where the model has none. Compiled as one program.
    """
    layers = {path: module for path, module in nnx.iter_modules(model) if isinstance(module, kind)}
    if not layers:
        return []
    graph, state = nnx.split(model)
    order: list[Any] = []

    @jax.jit
    def compute(state: Any, images: Array) -> list[tuple[tuple[Any, ...], Any]]:
        seen: list[tuple[Any, tuple[Any, ...], Any]] = []
        merged = nnx.merge(graph, state)
        with depth.written_out(), recorded(kind, method, seen):
            key = jax.random.key(KEY)
            merged(images, rngs=nnx.Rngs(candidates=key, dropout=key))
        paths = {id(module): path for path, module in nnx.iter_modules(merged)}
        order.extend(layers[paths[id(layer)]] for layer, _, _ in seen)
        return [(arguments, result) for _, arguments, result in seen]

    found = compute(state, images)
    return [(layer, *call) for layer, call in zip(order, found, strict=True)]


@contextlib.contextmanager
def recorded(kind: type, method: str, seen: list[tuple[Any, tuple[Any, ...], Any]]) -> Iterator[None]:
    """Inside, calls of `kind.method` are added to `seen`: layer, arguments, result."""
    original = getattr(kind, method)

    @functools.wraps(original)
    def noting(self: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, *arguments, **options)
        seen.append((self, arguments, result))
        return result

    setattr(kind, method, noting)
    try:
        yield
    finally:
        setattr(kind, method, original)
