"""Weights to start from: a run, a PyTorch file, safetensors (`config.init_from`)."""

import dataclasses
import hashlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flaxnets import interop
from flaxnets.errors import UserError
from flaxnets.interop import conversion, matching, optimizer_state
from flaxnets.interop.matching import Match
from flaxnets.interop.model_card import ModelCard
from train import config as options
from train.checkpointing.checkpoints import Checkpoints, read_config
from train.config import ConfigDict
from train.state import TrainState, Values, split


@dataclasses.dataclass(frozen=True)
class Weights:
    """Values by name: published keys, or paths in the model if they come from a run (`own`)."""

    given: dict[str, np.ndarray]
    what: str
    own: bool = False
    card: ModelCard | None = None
    optimizer: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256, hex, of all names and values."""
        digest = hashlib.sha256()
        for name, value in sorted(self.given.items()):
            digest.update(f'{name} {value.dtype} {value.shape}'.encode())
            digest.update(np.ascontiguousarray(value).view(np.uint8).data)
        return digest.hexdigest()

    def match(self, model: nnx.Module, *, skip: str = '', rename: str = '') -> Match:
        """Which value is which in `model`; a `UserError` with all that does not fit."""
        return matching.match(model, self.given, skip=skip or (), rename=rename, own=self.own)

    def values(self, model: nnx.Module, match: Match, parts: tuple[Values, ...]) -> tuple[Values, ...]:
        """`parts` (parameters, statistics) with the matched values in place of their own."""
        loaded = conversion.converted(model, match.given, match.loaded)
        return tuple({key: loaded.get(key, old) for key, old in part.items()} for part in parts)

    def moments(
        self, model: nnx.Module, match: Match, opt_state: optax.OptState
    ) -> tuple[optax.OptState, int]:
        """(`opt_state` with the moments from the weights' file, the number of updates these have seen)."""
        if self.optimizer is None:
            raise UserError(
                f'init_from.optimizer: expected a .pt with weights and the state of an optimiser, '
                f'got none ({self.what})'
            )
        return optimizer_state.take_over(opt_state, self.optimizer, model, self.given, match)


def read(path: str | pathlib.Path, checkpoint: str = 'best') -> Weights:
    """The weights of a file, or of a checkpoint of the run in a folder.

    Raises:
        UserError: there are none.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        file = interop.load(path)
        return Weights(file.state_dict, file.format, file.own, file.card, file.optimizer)
    config = read_config(path, builds=False)
    if config is None:
        raise UserError(
            f'{path}: expected a run, a .pt, .pth or .safetensors, got a folder without config.json'
        )
    if (count := options.replicas(config)) > 1:
        raise UserError(
            f'{path}: expected a run of one model, got {count} replicas; train one of '
            'them alone, with the seed and learning rate that summary.json names'
        )
    checkpoints = Checkpoints(path, metric=config.checkpoint.metric, read_only=True)
    try:
        step = checkpoints.find(checkpoint)
        card, metrics = checkpoints.meta(step).card, checkpoints.scores(step)
        given = checkpoints.values(step)
    finally:
        checkpoints.close()
    if card is not None:
        card = dataclasses.replace(card, metrics=metrics)
    return Weights(given, f'run, checkpoint {step}', own=True, card=card)


def moments_described(updates: int) -> str:
    """That the optimiser's moments were loaded, in a line; SGD does not count its updates."""
    return f'with the moments of {updates} updates' if updates else 'with its momentum'


def start(config: ConfigDict, model: nnx.Module, initial: TrainState) -> tuple[TrainState, list[str], str]:
    """(the state that a run begins with, lines to print about it, the weights' digest): `initial`, with the
    weights of `config.init_from.path` if that is set.

    With `init_from.optimizer` it takes the moments too; the learning-rate schedule starts from its beginning.
    """
    options = config.init_from
    if not options.path:
        return initial, [], ''
    weights, match = _matched(options, model)
    notes = [f'starting from {options.path} ({weights.what}): {described(match)}']
    params, stats = weights.values(model, match, (initial.params, initial.stats))
    ema = jax.tree.map(jnp.copy, params) if initial.ema else {}
    state = dataclasses.replace(initial, params=params, stats=stats, ema=ema)
    if options.optimizer:
        opt_state, steps = weights.moments(model, match, state.opt_state)
        state = dataclasses.replace(state, opt_state=opt_state)
        notes.append(moments_described(steps))
    return jax.tree.map(_laid_out, state, initial), notes, weights.digest


def started(config: ConfigDict, model: nnx.Module, digest: str) -> nnx.Module | None:
    """`model`, which has fresh values, as the run began with it: with the weights of `config.init_from.path`.

    None where these are gone, or are no longer those of the `digest` that `start` gave.
    """
    if not config.init_from.path:
        return model
    try:
        weights, match = _matched(config.init_from, model)
    except (UserError, OSError):
        return None
    if weights.digest != digest:
        return None
    structure, *parts = split(model)
    return structure.merge(*weights.values(model, match, tuple(parts)))


def _matched(options: Any, model: nnx.Module) -> tuple[Weights, Match]:
    """The weights that `options` (config.init_from) names, and what of them goes where in `model`."""
    weights = read(options.path)
    try:
        return weights, weights.match(model, skip=options.skip, rename=options.rename)
    except UserError as error:
        raise UserError(f'config.init_from: {options.path}: {error}') from None


def _laid_out(new: jax.Array, old: jax.Array) -> jax.Array:
    """`new`, placed on the devices as `old` is; they may belong to several processes."""
    if new is old:
        return old
    host = np.asarray(new)
    return jax.make_array_from_callback(host.shape, old.sharding, lambda index: host[index])


def described(match: Match) -> str:
    """What was loaded, ignored and not loaded, in a line."""
    parts = [f'{len(match.loaded)} values loaded']
    if said := str(match.renames):
        parts.append(said)
    if match.ignored:
        parts.append(f'ignored {", ".join(match.ignored)}')
    if match.fresh:
        parts.append(f'fresh {", ".join(row.flax for row in match.fresh)}')
    return '; '.join(parts)
