"""A run's checkpoint and the images to score it on, for evaluation and reports."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from flaxnets import registry
from flaxnets.errors import UserError
from train import data, experiment
from train.checkpointing.checkpoints import Checkpoints, read_config
from train.data import describe
from train.data.locate import NotFound
from train.experiment import Experiment
from train.progress import shown
from train.state import TrainState

# How often to try again when a running training has just replaced the checkpoint by a newer one.
ATTEMPTS = 5


class Replaced(Exception):
    """The checkpoint has gone since it was found."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint's step and state, the epochs before it, and what its config computes with."""

    step: int
    state: TrainState
    history: list[dict[str, Any]]
    exp: Experiment


@contextlib.contextmanager
def restored(
    workdir: pathlib.Path,
    checkpoint: str,
    split: str,
    *,
    data_dir: str | None = None,
    batch_size: int = 0,
    model: str | None = None,
) -> Iterator[Restored]:
    """The checkpoint ('best', 'last' or a step) of the run in `workdir`, with the images of a split.

    `data_dir` says where the images are if they have moved; `batch_size` replaces the run's.
    A model of the user's own, 'module:builder', is imported only if `model` names it.

    Raises:
        UserError: no run, no such checkpoint, or other images than it was trained for.
    """
    if model is not None:
        registry.entry(model)
    config = read_config(workdir)
    if config is None:
        raise UserError(
            f'--workdir: expected the folder of a run, but {workdir} does not exist or is not one'
        )
    if data_dir is not None:
        config.data.data_dir = data_dir
    if split == 'validation' and not config.data.validation:
        raise UserError('--split: expected train or test; this run has no validation images')
    if batch_size < 0:
        raise UserError(f'--batch_size: expected at least 1, got {batch_size}')
    config.data.eval_batch_size = batch_size or config.data.eval_batch_size
    try:
        sets = data.load_splits(config.data, [split])
    except NotFound as error:
        raise UserError(f'{error.missing}; say where the images are with --data_dir DIR') from error
    with experiment.precision(config), shown() as progress:
        progress('restoring the checkpoint')
        for _ in range(ATTEMPTS):
            with contextlib.suppress(Replaced):
                found = _restore(workdir, checkpoint, config, sets[split])
                break
        else:
            raise UserError(f'{workdir}: the run replaces its checkpoints too fast; try again')
        found.exp.track = progress.track
        yield found


def _restore(workdir: pathlib.Path, checkpoint: str, config: Any, images: data.ImageSet) -> Restored:
    with contextlib.closing(
        Checkpoints(workdir, metric=config.checkpoint.metric, read_only=True)
    ) as checkpoints:
        step = checkpoints.find(checkpoint)
        try:
            meta = checkpoints.meta(step)
            if (card := meta.card) is not None:
                shape = (*card.preprocessing['size'], len(card.preprocessing['mean']))
                describe.check_like(images, card.preprocessing['class_names'], shape, f'checkpoint {step}')
            exp = Experiment.create(config, {images.split: images})
            exp.init_digest = meta.init_digest
            return Restored(step, checkpoints.restore(exp.initial, step), meta.history, exp)
        except Exception as error:
            if (checkpoints.folder / str(step)).is_dir():
                raise
            raise Replaced from error
