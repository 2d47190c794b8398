"""Checkpoints: orbax keeps the newest and the best.

A checkpoint is the TrainState and what `meta.py` lists. Nothing else is needed to read it.
"""

import json
import logging
import os
import pathlib
import shutil
import warnings
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flaxnets.errors import UserError
from train import config as options
from train.checkpointing import manifest
from train.checkpointing.best import best_step, score
from train.checkpointing.meta import Meta
from train.distributed import processes
from train.state import TrainState
from train.workdir import is_config, read_json


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, numbered by step, without the damaged ones.

    A warning names each damaged one. A run that continues deletes it and writes it again when it reaches that
    step; with `read_only`, for commands that only read a run, it stays.

    Raises:
        UserError: there are checkpoints, and all are damaged; or the folder's path is not in UTF-8.
    """

    def __init__(
        self, workdir: pathlib.Path, *, keep: int = 1, metric: str = 'accuracy', read_only: bool = False
    ):
        # orbax logs every save and every failure through absl; failures are raised as exceptions too.
        logging.getLogger('absl').setLevel(logging.CRITICAL)
        self.folder = (workdir / 'checkpoints').resolve()
        _check_utf8(self.folder)
        self.metric = metric
        self.saving = 0  # the step that is being saved
        self.damaged = self._verify(read_only)
        best = policies.BestN(
            get_metric_fn=self._score, reverse=False, n=1, keep_checkpoints_without_metrics=False
        )
        self.manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                best_fn=self._score,  # without it orbax does not write the scores, which decide the best
                create=not read_only,
                read_only=read_only,
                cleanup_tmp_directories=not read_only,
                lightweight_initialize=read_only,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            ),
            item_handlers={'state': ocp.StandardCheckpointHandler(), 'meta': ocp.JsonCheckpointHandler()},
        )

    def _score(self, metrics: dict[str, float]) -> float:
        return score(metrics, self.metric)

    def _verify(self, read_only: bool) -> dict[int, str]:
        """{damaged step: what is wrong with it}; deletes these steps unless `read_only`."""
        found = committed(self.folder)
        damaged = {step: what for step in found if (what := self._damage(step))}
        if found and len(damaged) == len(found):
            raise UserError(
                f'all checkpoints of {self.folder.parent} are damaged: {"; ".join(damaged.values())}. '
                'Restore them from a copy, or start again in another --workdir'
            )
        processes.wait()  # all processes have verified before the first one deletes
        newest = max(set(found) - set(damaged), default=0)
        for step, what in damaged.items():
            action = 'not used' if read_only else 'deleted'
            action += f'; the newest undamaged one is {newest}' if step > newest else ''
            warnings.warn(f'checkpoint {step} is damaged ({what}): {action}', RuntimeWarning, stacklevel=3)
            if not read_only and processes.first():
                shutil.rmtree(self.folder / str(step), ignore_errors=True)
        return damaged

    def _damage(self, step: int) -> str:
        """What is wrong with a step; empty if a training run has just deleted it."""
        folder = self.folder / str(step)
        try:
            what = manifest.damage(folder)
        except FileNotFoundError:
            what = f'{folder} has lost files'
        return what if folder.is_dir() else ''

    def _seal(self) -> None:
        """Writes the manifest; orbax calls this when all files are there, before the rename that commits."""
        # orbax writes _CHECKPOINT_METADATA in a thread of its own, which nothing public waits for: half
        # written when its sum is taken, the checkpoint would later be called damaged.
        self.manager._non_blocking_metadata_store.wait_until_finished()
        (unfinished,) = self.folder.glob(f'{self.saving}.*tmp*')
        manifest.write(unfinished)

    def steps(self) -> list[int]:
        """The steps of the undamaged checkpoints, oldest first."""
        return sorted(set(self.manager.all_steps()) - set(self.damaged))

    def save(self, state: TrainState, step: int, meta: Meta, scores: dict[str, float] | None) -> None:
        """Starts writing in the background; `scores`, given at the end of an epoch, decide which is best."""
        self.manager.wait_until_finished()
        self.saving = step
        if step in self.manager.all_steps():  # saved before its evaluation, by a run that was stopped there
            self.manager.delete(step)
        metrics = {key: scores[key] for key in ('accuracy', 'macro_f1', 'loss')} if scores else None
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta.to_json()))
        self.manager.save(step, args=args, metrics=metrics, force=True)

    def restore(self, like: TrainState, step: int) -> TrainState:
        """The state of `step`, laid out on devices as `like` is."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self.manager.restore(step, args=args)['state']

    def meta(self, step: int) -> Meta:
        """What the checkpoint of `step` says in addition to the state."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return Meta.from_json(self.manager.restore(step, args=args)['meta'])

    def values(self, step: int) -> dict[str, np.ndarray]:
        """Parameters and running statistics of `step` by path: no model is needed, nor as many devices."""
        folder = self.folder / str(step) / 'state'
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            stored = checkpointer.metadata(folder).item_metadata.tree
            wanted = {part: stored[part] for part in ('params', 'stats')}
            kind = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            args = ocp.args.PyTreeRestore(wanted, restore_args=kind, partial_restore=True)
            restored = checkpointer.restore(folder, args=args)
        return restored['params'] | restored['stats']

    def scores(self, step: int) -> dict[str, float]:
        """Accuracy and macro F1 (percent) and loss that `save` was given for `step`; none inside an epoch."""
        return self.manager.metrics(step) or {}

    def find(self, which: str) -> int:
        """The step that 'best', 'last' or a number means; a `UserError` if there is none."""
        steps = self.steps()
        if not steps:
            raise UserError(f'{self.folder}: expected checkpoints, found none; train first')
        if which == 'last':
            return steps[-1]
        if which == 'best':
            scored = {s: scores for s in steps if (scores := self.scores(s))}
            return best_step(scored, self.metric) if scored else steps[-1]
        if which.isdigit() and int(which) in self.damaged:
            raise UserError(
                f'--checkpoint {which}: {self.damaged[int(which)]}; the undamaged ones are {steps}'
            )
        if not which.isdigit() or int(which) not in steps:
            raise UserError(f'--checkpoint: expected best, last or one of {steps}, got {which!r}')
        return int(which)

    def wait(self) -> None:
        """Waits until the last save is on disk."""
        self.manager.wait_until_finished()

    def close(self) -> None:
        """Waits until the last save is on disk and ends orbax's threads."""
        self.manager.close()


def _check_utf8(folder: pathlib.Path) -> None:
    """Raises a `UserError` for a path that orbax cannot open: it would fail at the first save."""
    path = os.fsencode(folder)
    try:
        path.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path.decode(errors="backslashreplace")}: expected a path in UTF-8, which checkpoints need; '
            'rename the folder'
        ) from error


def committed(folder: pathlib.Path) -> list[int]:
    """The steps under `folder` whose save was finished, oldest first: orbax renames a folder then."""
    return sorted(int(path.name) for path in folder.glob('*') if path.name.isdigit() and path.is_dir())


def read_config(workdir: pathlib.Path, *, builds: bool = True) -> options.ConfigDict | None:
    """The config of the run in `workdir`: from config.json, else from its newest undamaged checkpoint.

    None if there is neither. It is checked like any other config in a file. With `builds=False`, for callers
    that do not build its model, the model is not looked up. Warns of a config.json that is something else.
    """
    stored, step = stored_config(workdir)
    if (path := workdir / 'config.json').exists() and (stored is None or step is not None):
        instead = 'no checkpoint has one either' if step is None else f'that of checkpoint {step} is used'
        warnings.warn(f"{path} is not a run's config: {instead}", RuntimeWarning, stacklevel=1)
    if stored is None:
        return None
    return options.validate_stored(stored, str(workdir), builds=builds)


def stored_config(workdir: pathlib.Path) -> tuple[dict[str, Any] | None, int | None]:
    """(the config of the run in `workdir` as it is stored, the step of the checkpoint that has it; None for
    config.json)."""
    config = read_json(workdir / 'config.json')
    if is_config(config):
        return config, None
    for step in reversed(committed(workdir / 'checkpoints')):
        folder = workdir / 'checkpoints' / str(step)
        if not manifest.damage(folder):
            return json.loads((folder / 'meta' / 'metadata').read_text())['config'], step
    return None, None
