"""Scores a run's checkpoint: `python -m train.evaluate --workdir DIR [--checkpoint best|last|STEP]`."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rich.console import Console

from flaxnets.errors import UserError
from train import cli

# How often to look again when a run that trains has just replaced the checkpoint by a newer one.
ATTEMPTS = 5
EXAMPLES = """examples:
  python -m train.evaluate --workdir runs/mine
  python -m train.evaluate --workdir runs/mine --checkpoint last --split train --json
  python -m train.evaluate --workdir runs/mine --data_dir ~/data --batch_size 16
"""


class Replaced(Exception):
    """The checkpoint has gone since it was found."""


def evaluate(
    workdir: str | pathlib.Path,
    *,
    checkpoint: str = 'best',
    split: str = 'test',
    data_dir: str | None = None,
    batch_size: int = 0,
    ema: bool = False,
    model: str | None = None,
) -> dict[str, Any]:
    """Loss, accuracy, macro F1, accuracy per class and confusion matrix of a checkpoint on a split.

    The checkpoint carries its config; the images are needed too, and `data_dir` says where they are if they
    have moved. A damaged checkpoint is not used, with a warning; asking for it by its step is an error.
    A model of your own, 'module:builder', is imported only if you name it too, as `model` or before.
    The averaged parameters of a run with `optimizer.ema` are scored too, under 'ema'; with `ema=True` they
    alone. `batch_size`, where memory is small, replaces the run's: models that draw candidates at random
    score a little differently then.
    """
    from flaxnets import registry
    from train import data, experiment
    from train.checkpointing.checkpoints import Checkpoints, read_config
    from train.data import describe
    from train.data.locate import NotFound
    from train.experiment import Experiment
    from train.state import TrainState

    workdir = pathlib.Path(workdir).expanduser()
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
        raise UserError('--split: expected train or test; this run held out no validation images')
    if ema and not config.optimizer.ema:
        raise UserError('--ema: expected a run with optimizer.ema; this one has no averaged parameters')
    if batch_size < 0:
        raise UserError(f'--batch_size: expected at least 1, got {batch_size}')
    config.data.eval_batch_size = batch_size or config.data.eval_batch_size
    try:
        sets = data.load_splits(config.data, [split])
    except NotFound as error:
        raise UserError(f'{error.missing}; say where the images are with --data_dir DIR') from error
    with experiment.precision(config):

        def restored() -> tuple[int, Experiment, TrainState]:
            with closing(
                Checkpoints(workdir, metric=config.checkpoint.metric, read_only=True)
            ) as checkpoints:
                step = checkpoints.find(checkpoint)
                try:
                    if (card := checkpoints.meta(step).card) is not None:
                        shape = (*card.preprocessing['size'], len(card.preprocessing['mean']))
                        names = card.preprocessing['class_names']
                        describe.check_like(sets[split], names, shape, f'checkpoint {step}')
                    exp = Experiment.create(config, sets)
                    return step, exp, checkpoints.restore(exp.initial, step)
                except Exception as error:
                    if (checkpoints.folder / str(step)).is_dir():
                        raise
                    raise Replaced from error

        for attempt in range(ATTEMPTS):
            try:
                step, exp, state = restored()
                break
            except Replaced:
                if attempt == ATTEMPTS - 1:
                    raise UserError(f'{workdir}: the run replaces its checkpoints too fast') from None
        scores = exp.evaluate(state, split, ema=ema)
        if config.optimizer.ema and not ema:
            scores['ema'] = exp.evaluate(state, split, ema=True)
    names = exp.sets[split].class_names
    return {'step': step, 'split': split, 'class_names': names} | scores


def main(argv: Sequence[str]) -> None:
    """Prints the scores."""
    parser = argparse.ArgumentParser(
        'python -m train.evaluate',
        description='Score a checkpoint of a run.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--workdir', required=True, help='the folder of the run')
    parser.add_argument('--checkpoint', default='best', help='best (default), last or a step')
    parser.add_argument('--split', default='test', choices=['train', 'validation', 'test'])
    parser.add_argument('--data_dir', default=None, help='where the data are, if they have moved')
    parser.add_argument('--batch_size', type=int, default=0, help="default: the run's")
    parser.add_argument('--ema', action='store_true', help='the averaged parameters alone')
    parser.add_argument('--json', action='store_true', help='print the scores as JSON')
    cli.add_model(parser)
    args = parser.parse_args(argv[1:])
    result = evaluate(
        args.workdir,
        checkpoint=args.checkpoint,
        split=args.split,
        data_dir=args.data_dir,
        batch_size=args.batch_size,
        ema=args.ema,
        model=args.model,
    )
    if args.json:
        print(json.dumps(result))
        return

    from train.reporting.console import show_scores

    console = Console(highlight=False, soft_wrap=True)
    title = f'{args.split}, checkpoint {result["step"]}'
    show_scores(console, result, result['class_names'], title)
    if 'ema' in result:
        show_scores(console, result['ema'], result['class_names'], f'{title}, averaged parameters')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
