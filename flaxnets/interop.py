"""PyTorch state dicts to NNX state and back.

Every model has one map (`torch_maps.py`): rows that pair the published PyTorch keys with a path in
the NNX state and the change of layout between them. `from_torch` and `to_torch` read the same rows
in the two directions.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from flaxnets import torch_maps
from flaxnets.errors import UserError


def from_torch(model: nnx.Module, state_dict: Mapping[str, Any]) -> nnx.Module:
    """Loads a PyTorch `state_dict` (tensors or arrays) into `model`, in place, and returns it.

    Raises:
        UserError: listing every missing, surplus or misshaped key at once.
    """
    rows = list(torch_maps.rows(model))
    arrays = {key: np.asarray(value) for key, value in state_dict.items()}
    state = nnx.state(model)
    values = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    paths = {'/'.join(map(str, path)): path for path in values}
    ignored = set(torch_maps.ignored(model))
    problems = []
    for row in rows:
        missing = [key for key in row.torch if key not in arrays]
        if missing:
            problems += [f'{key}: missing' for key in missing]
            continue
        old = values[paths[row.flax]]
        # A broadcast scalar: the shapes without the memory of the values.
        expected = row.layout.to_torch(np.broadcast_to(np.int8(0), old.shape), len(row.torch))
        misshaped = [
            f'{key}: expected {e.shape}, got {arrays[key].shape}'
            for key, e in zip(row.torch, expected, strict=True)
            if arrays[key].shape != e.shape
        ]
        if misshaped:
            problems += misshaped
            continue
        new = row.layout.to_flax([arrays[key] for key in row.torch])
        values[paths[row.flax]] = jnp.asarray(new, old.dtype)
    used = {key for row in rows for key in row.torch}
    problems += [f'{key}: not in this model' for key in arrays if key not in used and key not in ignored]
    if problems:
        raise UserError('state dict does not fit the model: ' + '; '.join(problems))
    nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(values))
    nnx.update(model, state)
    return model


def to_torch(model: nnx.Module) -> dict[str, np.ndarray]:
    """The model's values under the keys and in the layouts of the published PyTorch code."""
    values = traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(model)), sep='/', keep_empty_nodes=False)
    values = {'/'.join(str(p) for p in path.split('/')): value for path, value in values.items()}
    return {
        key: array
        for row in torch_maps.rows(model)
        for key, array in zip(
            row.torch, row.layout.to_torch(np.asarray(values[row.flax]), len(row.torch)), strict=True
        )
    }
