"""State dicts as people have them, and how they fit a model.

A state dict may sit in a dictionary beside an optimiser's state, carry the prefixes of
`torch.nn.DataParallel` and `torch.compile`, and contain tensors of any device and dtype. `arrays` makes
{published key: numpy array} of it. `match` compares that with the model's map (`maps/`) and
reports all differences at once.
"""

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import registry
from flaxnets.errors import UserError
from flaxnets.interop import maps

# Where training scripts keep the weights in a checkpoint, in the order they are looked for.
NESTED = ('state_dict', 'model_state_dict', 'model')
# Components that wrappers insert into keys: DataParallel around the model or a part of it, torch.compile.
WRAPPERS = {'module', '_orig_mod'}
# No listing is longer than this: the widest model here has 400 keys, a hostile file may have millions.
MOST_PROBLEMS = 1000


def arrays(value: Any) -> dict[str, np.ndarray]:
    """{published key: array} of a state dict, or of a checkpoint that contains one.

    Raises:
        UserError: if there is none, or a value is no plain dense tensor.
    """
    found = {}
    for key, tensor in find(value).items():
        plain = '.'.join(part for part in key.split('.') if part not in WRAPPERS)
        if plain in found:
            raise UserError(f'state dict: {shown(key)} is there twice, with and without a wrapper prefix')
        try:
            found[plain] = to_numpy(tensor)
        except (TypeError, RuntimeError) as error:
            reason = str(error).partition('\n')[0]
            raise UserError(f'state dict: {shown(key)} is no plain dense tensor ({reason})') from None
    return found


def find(value: Any) -> Mapping[str, Any]:
    """The mapping from keys to tensors in `value`: itself, or its value under one of `NESTED`."""
    for _ in range(9):  # a hostile file may nest without end
        if not isinstance(value, Mapping):
            break
        if value and all(isinstance(key, str) and is_array(item) for key, item in value.items()):
            return value
        nested = next((value[key] for key in NESTED if isinstance(value.get(key), Mapping)), None)
        if nested is None:
            break
        value = nested
    if isinstance(value, Mapping):
        came = f'a dictionary of {", ".join(shown(key) for key in list(value)[:10]) or "nothing"}'
    elif hasattr(value, 'state_dict'):
        came = f'a {type(value).__name__}; pass its .state_dict()'
    else:
        came = f'a {type(value).__name__}'
    raise UserError(
        f'expected a state dict, {{name: tensor}}, alone or under {", ".join(map(repr, NESTED))}, got {came}'
    )


def is_array(value: Any) -> bool:
    """A tensor or array of any library."""
    return hasattr(value, 'shape') and hasattr(value, 'dtype')


def to_numpy(value: Any) -> np.ndarray:
    """A PyTorch tensor or any array as numpy's; bfloat16 stays bfloat16."""
    if not hasattr(value, 'detach'):
        return np.asarray(value)
    tensor = value.detach().cpu()
    if str(tensor.dtype) == 'torch.bfloat16':
        import torch  # the caller has it, or there would be no tensor

        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def shown(key: Any) -> str:
    """A key for a message of one line."""
    text = str(key)
    return text if text.isprintable() and len(text) < 200 else repr(text[:200])


@dataclasses.dataclass(frozen=True)
class Match:
    """What goes where: `loaded` rows of the map, given keys that are `ignored` (no input reaches them, or
    the caller skips them), rows that stay `fresh` because the caller skips them."""

    loaded: list[maps.Row]
    ignored: list[str]
    fresh: list[maps.Row]


def match(
    model: nnx.Module,
    given: Mapping[str, np.ndarray],
    *,
    skip: str | Sequence[str] = (),
    rows: Sequence[maps.Row] | None = None,
) -> Match:
    """Pairs `given` with the model's values.

    Args:
        model: decides which keys and shapes are expected.
        given: `arrays(...)`.
        skip: see `selected`; what it selects keeps the model's values, whatever `given` says.
        rows: the map by which `given` is named; None: the model's, with published keys.

    Raises:
        UserError: one line with every missing, surplus and misshaped key, or a `skip` that fits none.
    """
    rows = list(registry.torch_rows(model)) if rows is None else rows
    patterns = [skip] if isinstance(skip, str) else list(skip)
    skipped = selected(model, patterns, option='skip')
    fresh = [row for row in rows if row.flax in skipped]
    wanted = [row for row in rows if row.flax not in skipped]

    unused = {*registry.ignored_keys(model), *(key for row in fresh for key in row.torch)}
    unused |= {key for key in given if any(p.match(dotted(key)) for p in map(_compiled, patterns))}
    shapes = expected_shapes(model, wanted)
    ignored = [key for key in given if key in unused]
    surplus = [key for key in given if key not in shapes and key not in unused]
    missing = [key for key in shapes if key not in given]
    wrong = [key for key in shapes if key in given and misfit(given[key], *shapes[key])]
    if missing or surplus or wrong:
        guesses = near_matches(missing, surplus, shapes, given)
        problems = [
            *(f'{key}: missing, {shapes[key][0]}' + guesses.get(key, '') for key in missing),
            *(f'{key}: {misfit(given[key], *shapes[key])}' for key in wrong),
            *(f'{shown(key)}: not in this model, {given[key].shape}' for key in surplus),
        ]
        counts = f'{len(missing)} missing, {len(surplus)} surplus, {len(wrong)} misshaped keys'
        hint = ' (another architecture?)' if len(missing) > len(shapes) // 2 else ''
        raise UserError(f'the weights do not fit {type(model).__name__}: {counts}{hint}: {listed(problems)}')
    return Match(wanted, ignored, fresh)


def selected(model: nnx.Module, patterns: Iterable[str], *, option: str) -> frozenset[str]:
    """Paths of the values that `patterns` name.

    A value is named by its path in the model and by its published keys; a pattern is such a name, its
    beginning up to a dot ('classifier.6', 'stages.0'), or a regular expression of one.

    Raises:
        UserError: a pattern that selects nothing; `option` is what the user set.
    """
    names = {path: [dotted(path)] for path in flat_state(model)}
    with contextlib.suppress(UserError):  # a model without a map: its paths are all the names it has
        for row in registry.torch_rows(model):
            names[row.flax] += row.torch
    paths: set[str] = set()
    for pattern in patterns:
        expression = _compiled(pattern, option)
        found = {path for path, each in names.items() if any(map(expression.match, each))}
        if not found:
            heads = dict.fromkeys(name.rpartition('.')[0] or name for each in names.values() for name in each)
            close = difflib.get_close_matches(pattern, heads, n=3, cutoff=0.4) or list(heads)[-3:]
            raise UserError(
                f'{option}: nothing in this model is called {pattern!r}; try {" or ".join(close)}'
            )
        paths |= found
    return frozenset(paths)


def _compiled(pattern: str, option: str = 'skip') -> re.Pattern[str]:
    try:
        return re.compile(rf'(?:{dotted(pattern)})(?:\.|$)')
    except re.error as error:
        raise UserError(
            f'{option}: expected a name, its beginning or a regular expression, got {pattern!r} ({error})'
        ) from None


def dotted(path: str) -> str:
    """A path in the model as PyTorch would write it."""
    return path.replace('/', '.')


def own_rows(model: nnx.Module) -> list[maps.Row]:
    """The map of values that are named by their paths in the model, as a run's checkpoint names them."""
    return [maps.Row((path,), path, maps.SAME) for path in flat_state(model)]


def converted(
    model: nnx.Module, given: Mapping[str, np.ndarray], rows: Iterable[maps.Row]
) -> dict[str, jax.Array]:
    """{path: value} in the model's layouts and dtypes, for rows that `match` has checked."""
    values = flat_state(model)
    # Copies: JAX could use PyTorch's memory itself, which changes while PyTorch trains on.
    return {
        row.flax: jnp.array(row.layout.to_flax([given[key] for key in row.torch]), values[row.flax].dtype)
        for row in rows
    }


def published(rows: Iterable[maps.Row], values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{published key: array in PyTorch's layout} of {path: value}; copies, contiguous and writable."""
    result: dict[str, np.ndarray] = {}
    for row in rows:
        arrays = row.layout.to_torch(np.asarray(values[row.flax]), len(row.torch))
        result |= {key: np.array(array, order='C') for key, array in zip(row.torch, arrays, strict=True)}
    return result


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
    lines += [(key, '', '', '', 'ignored: no input reaches it') for key in registry.ignored_keys(model)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, line, widths)).rstrip() for line in lines)


def flat_state(model: nnx.Module) -> dict[str, nnx.Variable]:
    """{path joined by '/': variable} of all values of a model."""
    return {'/'.join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(model))}


def misfit(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why the array cannot be loaded; empty if it can."""
    if array.shape != shape:
        return f'expected {shape}, got {array.shape}'
    for kind in (jnp.floating, jnp.integer):
        if jnp.issubdtype(dtype, kind) and not jnp.issubdtype(array.dtype, kind):
            return f'expected {kind.__name__} values, got {array.dtype}'
    return ''


def near_matches(
    missing: list[str], surplus: list[str], shapes: Mapping[str, Any], given: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """For each missing key, the surplus key of its shape that is most like it."""
    if len(missing) * len(surplus) > 200_000:
        return {}  # seconds, for keys that have nothing in common
    guesses = {}
    for key in missing:
        alike = [other for other in surplus if given[other].shape == shapes[key][0]]
        for guess in difflib.get_close_matches(key, alike, n=1):
            guesses[key] = f' (is it {shown(guess)}?)'
    return guesses


def listed(problems: list[str]) -> str:
    """All of them on one line."""
    more = len(problems) - MOST_PROBLEMS
    return '; '.join(problems[:MOST_PROBLEMS]) + (f'; and {more} more' if more > 0 else '')
