"""How a state dict fits a model: which array belongs to which value, and all differences in one error."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import registry
from flaxnets.errors import NoTorchMap, UserError
from flaxnets.interop import maps
from flaxnets.interop.conversion import expected_shapes, flat_state, own_rows
from flaxnets.interop.renames import Renames, recognised, rules
from flaxnets.interop.state_dicts import shown

# No listing is longer than this: the widest model here has 400 keys, a hostile file may have millions.
MOST_PROBLEMS = 1000
# What wrappers save in addition to a model's values: AveragedModel's counter (torch.optim.swa_utils).
OF_WRAPPERS = ('n_averaged',)


@dataclasses.dataclass(frozen=True)
class Match:
    """Which array belongs to which value.

    Attributes:
        given: the arrays by the keys of the model's map, in the file's order.
        loaded: the rows of the map whose values are in `given`.
        ignored: given keys that are not loaded: no output depends on them, or the caller skips them.
        foreign: those of `ignored` that are not in the map at all.
        fresh: rows whose values the model keeps, because the caller skips them.
        renames: how the keys of `given` came from those of the file.
    """

    given: dict[str, np.ndarray]
    loaded: list[maps.Row]
    ignored: list[str]
    foreign: frozenset[str]
    fresh: list[maps.Row]
    renames: Renames


def match(
    model: nnx.Module,
    given: Mapping[str, np.ndarray],
    *,
    skip: str | Sequence[str] = (),
    rename: str | Sequence[str] = (),
    own: bool = False,
) -> Match:
    """Pairs `given` with the model's values.

    Args:
        model: decides which keys and shapes are expected.
        given: `state_dicts.arrays(...)`.
        skip: see `selected`; what it selects keeps the model's values, whatever `given` says.
        rename: see `renames.rules`, several in one string separated by spaces; applied to the keys of `given`
            before anything else.
        own: `given` is named by paths in the model, not by published keys.

    Raises:
        UserError: one line with every missing, surplus and misshaped key; values that are not finite; a
            `skip` that fits nothing or leaves nothing to load.
    """
    rows = own_rows(model) if own else list(registry.torch_rows(model))
    dead = {} if own else registry.ignored_keys(model)
    shapes = expected_shapes(model, rows)
    renames = rules(given, rename.split() if isinstance(rename, str) else rename)
    if not own:
        renames = recognised(renames, shapes, dead, registry.torch_variants(model))
    given = renames.apply(given, shapes)

    patterns = [skip] if isinstance(skip, str) else list(skip)
    skipped = selected(model, patterns, option='skip', others=given)
    fresh = [row for row in rows if row.flax in skipped]
    wanted = [row for row in rows if row.flax not in skipped]
    if not wanted:
        raise UserError(f'skip: {" ".join(patterns)!r} leaves nothing to load; name only what stays fresh')

    unused = {*dead, *renames.left_out, *(key for row in fresh for key in row.torch)}
    unused |= {key for key in given if any(p.match(dotted(key)) for p in map(_compiled, patterns))}
    unused |= {key for key in given if key.rpartition('.')[2] in OF_WRAPPERS}
    wanted_keys = {key: shapes[key] for row in wanted for key in row.torch}
    ignored = [key for key in given if key in unused]
    surplus = [key for key in given if key not in wanted_keys and key not in unused]
    _check_fit(model, given, wanted_keys, surplus, str(renames))
    _check_finite(given, wanted_keys)
    foreign = frozenset(ignored).difference(shapes, dead, renames.left_out)
    return Match(given, wanted, ignored, foreign, fresh, renames)


def _check_fit(
    model: nnx.Module,
    given: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    surplus: list[str],
    said: str,
) -> None:
    """Raises a `UserError` that lists every missing, misshaped and surplus key."""
    missing = [key for key in shapes if key not in given]
    wrong = [key for key in shapes if key in given and misfit(given[key], *shapes[key])]
    if not (missing or surplus or wrong):
        return
    guesses = near_matches(missing, surplus, shapes, given)
    problems = [
        *(f'{key}: missing, {shapes[key][0]}' + guesses.get(key, '') for key in missing),
        *(f'{key}: {misfit(given[key], *shapes[key])}' for key in wrong),
        *(f'{shown(key)}: not in this model, {given[key].shape}' for key in surplus),
    ]
    counts = f'{len(missing)} missing, {len(surplus)} surplus, {len(wrong)} misshaped keys'
    hint = ' (another architecture?)' if len(missing) > len(shapes) // 2 else ''
    said = f' ({said})' if said else ''
    raise UserError(
        f'the weights{said} do not fit {type(model).__name__}: {counts}{hint}: {listed(problems)}'
    )


def _check_finite(given: Mapping[str, np.ndarray], keys: Iterable[str]) -> None:
    """Raises a `UserError` that lists the keys whose values are not all finite numbers."""
    floats = {key: given[key] for key in keys if jnp.issubdtype(given[key].dtype, jnp.floating)}
    counts = {key: array.size - int(np.isfinite(array).sum()) for key, array in floats.items()}
    problems = [f'{key} ({count} of {floats[key].size})' for key, count in counts.items() if count]
    if problems:
        raise UserError(
            f'the weights contain NaN or infinity, as after training that diverged: {listed(problems)}; '
            'take an earlier checkpoint'
        )


def selected(
    model: nnx.Module, patterns: Iterable[str], *, option: str, others: Iterable[str] = ()
) -> frozenset[str]:
    """Paths of the values that `patterns` name.

    A value is named by its path in the model and by its published keys; a pattern is such a name, its
    beginning up to a dot ('classifier.6', 'stages.0'), or a regular expression of one.

    Args:
        model: whose values.
        patterns: what to select.
        option: what the user set, for errors.
        others: further names that a pattern may fit: keys of a file that are not in the model.

    Raises:
        UserError: a pattern that fits nothing.
    """
    names = {path: [dotted(path)] for path in flat_state(model)}
    try:
        for row in registry.torch_rows(model):
            names[row.flax] += row.torch
    except NoTorchMap:
        pass  # its paths are all the names it has
    others = [dotted(key) for key in others]
    paths: set[str] = set()
    for pattern in patterns:
        expression = _compiled(pattern, option)
        found = {path for path, each in names.items() if any(map(expression.match, each))}
        if not found and not any(map(expression.match, others)):
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


def misfit(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why the array cannot be loaded; empty if it can."""
    if array.shape != shape:
        return f'expected {shape}, got {array.shape}'
    for kind in (jnp.floating, jnp.integer):
        if jnp.issubdtype(dtype, kind) and not jnp.issubdtype(array.dtype, kind):
            return f'expected {kind.__name__} values, got {array.dtype}'
    return ''


def near_matches(
    missing: list[str], surplus: list[str], shapes: Mapping[str, tuple], given: Mapping[str, np.ndarray]
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
