"""Weights & Biases, where it is installed and asked for with `log.wandb=PROJECT`."""

import importlib
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

from flaxnets.errors import UserError
from flaxnets.interop.atomic import write_text

# What stands before the names of curves: after some steps, after an epoch.
GROUPS = ('step', 'epoch')


class WandbRun:
    """A run of `project`, the same one however often the workdir's run resumes; `sent` is the last step of
    each of `GROUPS` that earlier processes sent and the checkpoint knows of.

    Raises:
        UserError: the package is not installed, or it cannot start a run.
    """

    def __init__(
        self, project: str, workdir: pathlib.Path, sent: Mapping[str, int], config: Mapping[str, Any]
    ):
        try:
            wandb = importlib.import_module('wandb')
        except ImportError:
            raise UserError(
                f'config.log.wandb: expected the package wandb to be installed to log to {project!r}; '
                'install it with pip install wandb, or leave log.wandb empty'
            ) from None
        name = workdir / 'wandb_id.txt'
        if not name.exists():
            write_text(name, uuid.uuid4().hex[:8])
        try:
            self.run = wandb.init(
                project=project,
                name=workdir.name,
                id=name.read_text().strip(),
                resume='allow',
                dir=str(workdir),
                config=dict(config),
            )
        except Exception as error:  # wandb's errors have no common class
            raise UserError(
                f'config.log.wandb: {error}; log in with `wandb login`, or set WANDB_MODE=offline'
            ) from error
        # Each group of curves has an axis of its own, which also tells what was sent before a resume.
        # Offline wandb does not know: there it is what came before the checkpoint.
        self.sent = dict(sent)
        if not self.run.offline:
            self.sent = {group: self.run.summary.get(f'{group}/at', -1) for group in GROUPS}
        for group in GROUPS:
            self.run.define_metric(f'{group}/*', step_metric=f'{group}/at')

    def add(self, values: dict[str, float], step: int) -> None:
        """A point of each curve, all of one of `GROUPS`, unless it was sent before."""
        group = next(iter(values)).partition('/')[0]
        if step > self.sent[group]:
            # wandb's own steps only go up. Computed from ours, they are the same where a point is made again.
            at = len(GROUPS) * step + GROUPS.index(group)
            self.run.log(values | {f'{group}/at': step}, step=at)
            self.sent[group] = step

    def close(self) -> None:
        """Sends what is left."""
        self.run.finish()
