"""A model's values by path, and by its map (`maps/`) under PyTorch's keys and in PyTorch's layouts."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import registry
from flaxnets.interop import maps


def flat_state(model: nnx.Module) -> dict[str, nnx.Variable]:
    """{path joined by '/': variable} of all values of a model."""
    return {'/'.join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(model))}


def own_rows(model: nnx.Module) -> list[maps.Row]:
    """The map of values that are named by their paths in the model, as a run's checkpoint names them."""
    return [maps.Row((path,), path, maps.SAME) for path in flat_state(model)]


def converted(
    model: nnx.Module, given: Mapping[str, np.ndarray], rows: Iterable[maps.Row]
) -> dict[str, jax.Array]:
    """{path: value} in the model's layouts and dtypes, for rows that `matching.match` has checked."""
    values = flat_state(model)
    # Copies: JAX could share PyTorch's memory, which changes while PyTorch continues training.
    return {
        row.flax: jnp.array(row.layout.to_flax([given[key] for key in row.torch]), values[row.flax].dtype)
        for row in rows
    }


def published(model: nnx.Module, values: Mapping[str, Any], *, unused: bool = True) -> dict[str, np.ndarray]:
    """{published key: array in PyTorch's layout} of {path: value}; copies, contiguous and writable.

    With `unused`, zeros under the keys of `registry.ignored_keys`.
    """
    result: dict[str, np.ndarray] = {}
    for row in registry.torch_rows(model):
        arrays = row.layout.to_torch(np.asarray(values[row.flax]), len(row.torch))
        result |= {key: np.array(array, order='C') for key, array in zip(row.torch, arrays, strict=True)}
    return result | (unused_zeros(model, result) if unused else {})


def unused_zeros(model: nnx.Module, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{key: zeros} for the keys that the published code has and never uses, in the dtype of the values
    of `like`, which has the other keys; batch normalisation's counters are integers."""
    dtype = next((a.dtype for a in like.values() if jnp.issubdtype(a.dtype, jnp.floating)), np.float32)
    return {
        key: np.zeros(shape, np.int64 if key.endswith('num_batches_tracked') else dtype)
        for key, shape in registry.ignored_keys(model).items()
        if key not in like
    }


def expected_shapes(
    model: nnx.Module, rows: Iterable[maps.Row]
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """{published key: shape in PyTorch's layout, dtype here}."""
    values = flat_state(model)
    shapes = {}
    for row in rows:
        value = values[row.flax]
        # A broadcast scalar: the shapes without the memory of the values.
        arrays = row.layout.to_torch(np.broadcast_to(np.int8(0), value.shape), len(row.torch))
        for key, array in zip(row.torch, arrays, strict=True):
            shapes[key] = (array.shape, value.dtype)
    return shapes


def table(model: nnx.Module) -> str:
    """The model's map, a line for each published key."""
    rows = list(registry.torch_rows(model))
    shapes = expected_shapes(model, rows)
    values = flat_state(model)
    lines = [('PyTorch', 'shape', 'flaxnets', 'shape', 'layout')]
    for row in rows:
        ours = (row.flax, str(values[row.flax].shape), row.layout.name)
        lines += [(key, str(shapes[key][0]), *ours) for key in row.torch]
    unused = registry.ignored_keys(model)
    lines += [(key, str(shape), '', '', 'no output depends on it') for key, shape in unused.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, line, widths)).rstrip() for line in lines)
