"""Scores a run's checkpoint: `python -m train.evaluate --workdir DIR [--checkpoint best|last|STEP]`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from flaxnets.errors import UserError
from train import cli


def evaluate(
    workdir: str | pathlib.Path, *, checkpoint: str = 'best', split: str = 'test', data_dir: str | None = None
) -> dict[str, Any]:
    """Loss, accuracy, macro F1, accuracy per class and confusion matrix of a checkpoint on a split.

    The checkpoint carries its config; the images are needed too, and `data_dir` says where they are if they
    have moved. A damaged checkpoint is not used, with a warning; asking for it by its step is an error.
    The averaged parameters of a run with `optimizer.ema` are scored too, under 'ema'.
    """
    from train import data, experiment
    from train.checkpointing.checkpoints import Checkpoints, read_config
    from train.data import describe
    from train.data.locate import NotFound
    from train.experiment import Experiment

    workdir = pathlib.Path(workdir).expanduser()
    config = read_config(workdir)
    if config is None:
        raise UserError(
            f'--workdir: expected the folder of a run, but {workdir} does not exist or is not one'
        )
    if data_dir is not None:
        config.data.data_dir = data_dir
    if split == 'validation' and not config.data.validation:
        raise UserError('--split: expected train or test; this run held out no validation images')
    checkpoints = Checkpoints(workdir, metric=config.checkpoint.metric, read_only=True)
    step = checkpoints.find(checkpoint)
    try:
        sets = data.load_splits(config.data, [split])
    except NotFound as error:
        raise UserError(f'{error.missing}; say where the images are with --data_dir DIR') from error
    if (card := checkpoints.meta(step).card) is not None:
        shape = (*card.preprocessing['size'], len(card.preprocessing['mean']))
        describe.check_like(sets[split], card.preprocessing['class_names'], shape, f'checkpoint {step}')
    with experiment.precision(config):
        exp = Experiment.create(config, sets)
        state = checkpoints.restore(exp.initial, step)
        scores = exp.evaluate(state, split)
        if config.optimizer.ema:
            scores['ema'] = exp.evaluate(state, split, ema=True)
    checkpoints.close()
    names = exp.sets[split].class_names
    return {'step': step, 'split': split, 'class_names': names} | scores


def main(argv: Sequence[str]) -> None:
    """Prints the scores."""
    parser = argparse.ArgumentParser('python -m train.evaluate', description='Score a checkpoint of a run.')
    parser.add_argument('--workdir', required=True, help='the folder of the run')
    parser.add_argument('--checkpoint', default='best', help='best (default), last or a step')
    parser.add_argument('--split', default='test', choices=['train', 'validation', 'test'])
    parser.add_argument('--data_dir', default=None, help='where the data are, if they have moved')
    args = parser.parse_args(argv[1:])
    result = evaluate(args.workdir, checkpoint=args.checkpoint, split=args.split, data_dir=args.data_dir)

    from train.reporting.console import show_scores

    console = Console(highlight=False, soft_wrap=True)
    title = f'{args.split}, checkpoint {result["step"]}'
    show_scores(console, result, result['class_names'], title)
    if 'ema' in result:
        show_scores(console, result['ema'], result['class_names'], f'{title}, averaged parameters')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
