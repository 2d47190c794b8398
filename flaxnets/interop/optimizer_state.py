"""PyTorch's optimiser state as optax's: training continues where PyTorch stopped.

`torch.optim` numbers the parameters in the order of the model's, and keeps for each `exp_avg`,
`exp_avg_sq` and `step` (Adam, AdamW) or `momentum_buffer` (SGD). A moment has its parameter's shape,
so a weight's row of the map is used for its moments too. Parameters that no gradient reached
have no moments there, and zeros here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flaxnets.errors import UserError
from flaxnets.interop import conversion, maps, state_dicts
from flaxnets.interop.matching import Match

BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked', 'n_averaged')
ADAM, SGD = ('exp_avg', 'exp_avg_sq'), ('momentum_buffer',)


def take_over(
    opt_state: optax.OptState,
    optimizer: Mapping[str, Any],
    model: nnx.Module,
    given: Mapping[str, np.ndarray],
    match: Match,
) -> tuple[optax.OptState, int]:
    """`opt_state` with the moments of a PyTorch optimiser's `state_dict()`.

    Args:
        opt_state: a fresh state of `optim.create`'s rule.
        optimizer: the state dict that was stored with the weights.
        model: the model the weights were loaded into.
        given: the weights, {published key: array} in the file's order.
        match: what was loaded; the moments of other values stay zero.

    Returns:
        The state, and the updates made so far: Adam's steps; 0 for SGD, which does not count them.

    Raises:
        UserError: no moments, moments of another optimiser, or parameters that cannot be identified.
    """
    renamed = match.renames.keys
    own = {key: array for key, array in given.items() if renamed[key] not in match.foreign}
    moments = {renamed[key]: each for key, each in by_key(optimizer, given, own).items()}
    kinds = {name for each in moments.values() for name in each}
    if 'max_exp_avg_sq' in kinds:
        raise UserError('init_from.optimizer: the file has AMSGrad moments, which flaxnets does not support')
    steps = {int(each['step']) for each in moments.values() if 'step' in each}
    if len(steps) > 1:
        raise UserError(
            f'init_from.optimizer: expected as many updates of every parameter, got {sorted(steps)}'
        )
    wanted = [n for s in _leaves(opt_state) for n in (ADAM if isinstance(s, optax.ScaleByAdamState) else SGD)]
    if not wanted or not kinds.issuperset(wanted):
        there = ', '.join(sorted(kinds - {'step'})) or 'no moments'
        needed = ', '.join(wanted) or 'none: sgd without momentum has none'
        raise UserError(
            f'init_from.optimizer: the file has {there}, the optimizer of the config needs {needed}; set '
            'config.optimizer as PyTorch had it'
        )
    rows = match.loaded
    step = max(steps, default=0)

    def replaced(state: Any) -> Any:
        if isinstance(state, optax.ScaleByAdamState):
            mu, nu = (_values(state.mu, name, model, moments, rows) for name in ADAM)
            return state._replace(count=jnp.asarray(step, state.count.dtype), mu=mu, nu=nu)
        if isinstance(state, optax.TraceState):
            return state._replace(trace=_values(state.trace, *SGD, model, moments, rows))
        return state

    taken_over = jax.tree.map(replaced, opt_state, is_leaf=_has_moments)
    chex.assert_trees_all_equal_shapes(taken_over, opt_state)
    return taken_over, step


def by_key(
    optimizer: Mapping[str, Any], given: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """{key in the file: {'exp_avg': ...}}, from PyTorch's numbering of the parameters.

    These are the weights `given`, or only those of the model, `own`: a loss in the same file has weights too.
    """
    groups = optimizer['param_groups']
    keys, others = ([key for key in each if not key.endswith(BUFFERS)] for each in (given, own))
    named = [name for group in groups for name in group.get('param_names', ())]
    numbers = [number for group in groups for number in group['params']]
    if named:
        keys = list(map(state_dicts.unwrapped, named))
    elif len(groups) > 1:
        raise UserError(
            f'init_from.optimizer: expected one group of parameters, got {len(groups)}, and it is not '
            'stated which parameters they have; save an optimiser made with model.named_parameters()'
        )
    elif len(keys) != len(numbers):
        keys = others
    if len(keys) != len(numbers):
        raise UserError(
            f'init_from.optimizer: expected an optimiser of {len(keys)} parameters, got {len(numbers)}; '
            'save one that has all of them'
        )
    moments = {}
    for key, number in zip(keys, numbers, strict=True):
        state = {n: v for n, v in optimizer['state'].get(number, {}).items() if v is not None}
        moments[key] = {n: state_dicts.to_numpy(v) for n, v in state.items()}
        if key not in given:
            raise UserError(
                f'init_from.optimizer: the optimiser has a parameter {key!r}, which is not among the weights'
            )
        for name in {*ADAM, *SGD}.intersection(state):
            if state[name].shape != given[key].shape:
                raise UserError(
                    f'init_from.optimizer: expected {name} {number} to be of {key}, {given[key].shape}, '
                    f'got {tuple(state[name].shape)}'
                )
            if not np.isfinite(moments[key][name]).all():
                raise UserError(f'init_from.optimizer: {name} of {key} contains NaN or infinity')
    return moments


def continue_schedule(opt_state: optax.OptState, steps: int) -> optax.OptState:
    """`opt_state` with the learning rate of the step after `steps`."""

    def counted(state: Any) -> Any:
        if isinstance(state, optax.ScaleByScheduleState):
            return state._replace(count=jnp.full_like(state.count, steps))
        return state

    is_schedule = lambda state: isinstance(state, optax.ScaleByScheduleState)  # noqa: E731
    return jax.tree.map(counted, opt_state, is_leaf=is_schedule)


def _values(
    fresh: Mapping[str, jax.Array],
    name: str,
    model: nnx.Module,
    moments: Mapping[str, Mapping[str, np.ndarray]],
    rows: Iterable[maps.Row],
) -> dict[str, jax.Array]:
    """One moment of all parameters, by path."""
    rows = [row for row in rows if row.flax in fresh]
    shapes = conversion.expected_shapes(model, rows)
    arrays = {
        key: np.reshape(moments.get(key, {}).get(name, np.zeros(shape)), shape)
        for key, (shape, _) in shapes.items()
    }
    return dict(fresh) | conversion.converted(model, arrays, rows)


def _has_moments(state: Any) -> bool:
    return isinstance(state, optax.ScaleByAdamState | optax.TraceState)


def _leaves(opt_state: optax.OptState) -> list[Any]:
    return [s for s in jax.tree.leaves(opt_state, is_leaf=_has_moments) if _has_moments(s)]
