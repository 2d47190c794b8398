"""Scores a run's checkpoint: `python -m train.evaluate --workdir DIR [--checkpoint best|last|STEP]`."""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from train import arguments, cli
from train.arguments import Parser
from train.terminal import terminal

EXAMPLES = """
  python -m train.evaluate --workdir runs/mine
  python -m train.evaluate --workdir runs/mine --checkpoint last --split train --json
  python -m train.evaluate --workdir runs/mine --data_dir ~/data --batch_size 16
"""


def evaluate(
    workdir: str | pathlib.Path,
    *,
    checkpoint: str = 'best',
    split: str = 'test',
    data_dir: str | None = None,
    batch_size: int = 0,
    ema: bool = False,
    model: str | None = None,
    page: bool = False,
) -> dict[str, Any]:
    """Loss, accuracy, macro F1, accuracy per class and confusion matrix of a checkpoint on a split.

    The checkpoint has its config; the images are needed too, and `data_dir` says where they are if they have
    moved. A damaged checkpoint is not used, with a warning; choosing it by its step is an error.
    A model of your own, 'module:builder', is imported only if you name it too, as `model` or before.
    The averaged parameters of a run with `optimizer.ema` are scored too, under 'ema'; with `ema=True` only
    these. `batch_size` replaces the run's, for small memory: the scores of models with random candidates
    differ a little then. With `page`, a page of pictures and `predictions.csv` are written to
    `workdir/evaluation/SPLIT-STEP`; the result's 'page' is its path.
    """
    import dataclasses

    from train import outcome
    from train.restored import restored
    from train.workdir import read_summary

    workdir = pathlib.Path(workdir).expanduser()
    chosen = restored(workdir, checkpoint, split, data_dir=data_dir, batch_size=batch_size, model=model)
    with chosen as run:
        exp, state = run.exp, run.state
        averaged = exp.config.optimizer.ema
        if ema and not averaged:
            raise UserError('--ema: expected a run with optimizer.ema; this one has no averaged parameters')
        if ema:
            state = dataclasses.replace(state, params=state.ema)
        scores = exp.evaluate(state, split)
        if averaged and not ema:
            scores['ema'] = exp.evaluate(state, split, ema=True)
        result = {'step': run.step, 'split': split, 'class_names': exp.sets[split].class_names} | scores
        if page:
            folder = workdir / 'evaluation' / f'{split}-{run.step}{"-ema" if ema else ""}'
            result['page'] = str(
                outcome.write(
                    exp,
                    state,
                    split=split,
                    scores=read_summary(workdir) | scores,
                    history=run.history,
                    workdir=workdir,
                    folder=folder,
                )
            )
    return result


def main(argv: Sequence[str]) -> None:
    """Prints the scores and the confusion matrix."""
    parser = Parser('train.evaluate', 'Score a checkpoint of a run.', EXAMPLES)
    parser.add_argument('--workdir', required=True, help='the folder of the run')
    arguments.add_restored(parser, checkpoint='best')
    parser.add_argument('--batch_size', type=int, default=0, help="default: the run's")
    parser.add_argument('--ema', action='store_true', help='score only the averaged parameters')
    parser.add_argument('--json', action='store_true', help='print the scores as JSON')
    parser.add_argument('--no_page', action='store_true', help='write no page and no predictions.csv')
    args = parser.parse_args(argv[1:])
    result = evaluate(
        args.workdir,
        checkpoint=args.checkpoint,
        split=args.split,
        data_dir=args.data_dir,
        batch_size=args.batch_size,
        ema=args.ema,
        model=args.model,
        page=not args.no_page,
    )
    if args.json:
        print(json.dumps(result))
        return

    from train.reporting.console import show_scores

    console = terminal()
    title = f'{args.split}, checkpoint {result["step"]}'
    show_scores(console, result, result['class_names'], title)
    if 'ema' in result:
        show_scores(console, result['ema'], result['class_names'], f'{title}, averaged parameters')
    if 'page' in result:
        page = pathlib.Path(result['page'])
        console.print(f'predictions {page.parent / "predictions.csv"}')
        console.print(f'page        {page}')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
