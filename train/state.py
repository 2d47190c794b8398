"""The state of a run: one pytree that a step maps to the next, and a checkpoint stores.

Values are in flat dictionaries keyed by their path in the model, 'layers/0/kernel': with plain leaves a call
of a jitted function takes a quarter of the time that it takes with NNX's own state, regular expressions can
select values, and a checkpoint has readable names.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx, traverse_util
from jaxtyping import Array

from train.runtime import compilations

Values = dict[str, Array]


@flax.struct.dataclass
class TrainState:
    """`step`: updates made; `params`, `stats` (running statistics), `ema` (averaged parameters, empty
    when off): values by path; `opt_state`: optax's; `key`: data of the run's random key."""

    step: Array
    params: Values
    stats: Values
    opt_state: optax.OptState
    ema: Values
    key: Array


@dataclasses.dataclass(frozen=True)
class Structure:
    """A model without its values: `merge` makes a model with values."""

    graphdef: nnx.GraphDef
    paths: dict[str, tuple[Any, ...]]

    def merge(self, *values: Values) -> nnx.Module:
        """The model with `values`; all values of the model must be among them."""
        states = [
            traverse_util.unflatten_dict({self.paths[k]: v for k, v in part.items()}) for part in values
        ]
        # copy: the values' variables belong to the trace that merges, or BatchNorm's update escapes it.
        return nnx.merge(self.graphdef, *states, copy=True)


def split(model: nnx.Module) -> tuple[Structure, Values, Values]:
    """(structure, trained parameters, running statistics) of a model."""
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    paths: dict[str, tuple[Any, ...]] = {}
    parts = []
    for part in states:
        values = traverse_util.flatten_dict(nnx.to_pure_dict(part))
        named = {'/'.join(map(str, path)): path for path in values}
        paths |= named
        parts.append({name: values[path] for name, path in named.items()})
    return Structure(graphdef, paths), parts[0], parts[1]


def statistics(model: nnx.Module) -> Values:
    """All values of a model that are not trained, by path."""
    return split(model)[2]


def without_gradient(model: nnx.Module) -> frozenset[str]:
    """Names of the parameters that no gradient reaches, as the layers declare them (`layers/nearest.py`)."""
    declared = [
        '/'.join(map(str, (*path, name, '')))
        for path, module in nnx.iter_modules(model)
        for name in getattr(module, 'without_gradient', ())
    ]
    return frozenset(name for name in split(model)[1] if name.startswith(tuple(declared)))


def create(
    params: Values, stats: Values, optimizer: optax.GradientTransformation, *, seed: int, ema: bool
) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt_state=compilations.quickly(optimizer.init)(params),  # not one program for each shape
        ema=jax.tree.map(jnp.copy, params) if ema else {},
        key=jax.random.key_data(jax.random.key(seed)),
    )
