"""Checkpoints: orbax keeps the newest and the best; what a run must match to continue from them.

A checkpoint is the whole TrainState beside `meta`: the config, the history of epochs, the sums of the
epoch under way, the data's fingerprints and the package versions. It needs nothing else to be read.
"""

import importlib.metadata
import json
import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flaxnets.errors import UserError
from train import config as options
from train.state import TrainState

PACKAGES = ('flaxnets', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, numbered by step."""

    def __init__(
        self, workdir: pathlib.Path, *, keep: int = 1, metric: str = 'accuracy', read_only: bool = False
    ):
        # orbax reports every save and restore to absl's log.
        logging.getLogger('absl').setLevel(logging.WARNING)
        self.folder = (workdir / 'checkpoints').resolve()
        self.metric = metric
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[metric],
            reverse=metric == 'loss',
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self.manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                create=not read_only,
                read_only=read_only,
            ),
            item_handlers={'state': ocp.StandardCheckpointHandler(), 'meta': ocp.JsonCheckpointHandler()},
        )

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, oldest first."""
        return sorted(self.manager.all_steps())

    def save(
        self, state: TrainState, step: int, meta: dict[str, Any], scores: dict[str, float] | None
    ) -> None:
        """Starts writing in the background; `scores` (epoch ends only) decide which is best."""
        metrics = {key: scores[key] for key in ('accuracy', 'macro_f1', 'loss')} if scores else None
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self.manager.save(step, args=args, metrics=metrics, force=True)

    def restore(self, like: TrainState, step: int) -> TrainState:
        """The state of `step`, laid out on devices as `like` is."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self.manager.restore(step, args=args)['state']

    def meta(self, step: int) -> dict[str, Any]:
        """What stands beside the state of `step`."""
        return self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']

    def find(self, which: str) -> int:
        """The step that 'best', 'last' or a number means; a `UserError` where there is none."""
        steps = self.steps()
        if not steps:
            raise UserError(f'{self.folder}: expected checkpoints, found none; train first')
        if which == 'last':
            return steps[-1]
        if which == 'best':
            # Of equals the newest, which is the one that orbax's BestN keeps.
            scored = {s: m[self.metric] for s in steps if (m := self.manager.metrics(s)) is not None}
            sign = -1 if self.metric == 'loss' else 1
            return max(scored, key=lambda s: (sign * scored[s], s)) if scored else steps[-1]
        if not which.isdigit() or int(which) not in steps:
            raise UserError(f'--checkpoint: expected best, last or one of {steps}, got {which!r}')
        return int(which)

    def close(self) -> None:
        """Waits until the last save is on disk."""
        self.manager.close()


def versions() -> dict[str, str]:
    """The packages whose versions decide what a run computes."""
    return {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)}


def _installed(name: str) -> bool:
    return bool(list(importlib.metadata.distributions(name=name)))


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a whole file or none."""
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(value, indent=2) + '\n')
    partial.replace(path)


def read_config(workdir: pathlib.Path) -> options.ConfigDict:
    """The config saved in a workdir, checked as one from a file is."""
    path = workdir / 'config.json'
    if not path.is_file():
        raise UserError(f'--workdir: expected the folder of a run, but {path} does not exist')
    return options.validate(json.loads(path.read_text()))


def match(workdir: pathlib.Path, config: options.ConfigDict) -> None:
    """Refuses to continue a run under a config that changes what it computes."""
    if not (workdir / 'config.json').is_file():
        return
    old, new = options.flatten(read_config(workdir)), options.flatten(config)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    refused = [key for key in changed if not key.startswith(options.MUTABLE)]
    if refused:
        listed = ', '.join(f'{key} ({old.get(key)!r} there, {new.get(key)!r} now)' for key in refused)
        raise UserError(
            f'{workdir} holds a run with another config: {listed}. Change it back or choose another --workdir'
        )
