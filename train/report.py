"""The report of a run, or of several: `python -m train.report --workdir DIR`, or `--compare DIR DIR ...`."""

import os
import pathlib
import sys
from collections.abc import Sequence

from flaxnets.errors import UserError
from train import arguments, cli
from train.arguments import Parser

EXAMPLES = """
  python -m train.report --workdir runs/mine
  python -m train.report --workdir runs/mine --checkpoint best --split train --to page
  python -m train.report --compare runs/mine runs/yours
  python -m train.report --compare 'runs/vit-*' --to vits

The page is index.html in the folder; its pictures are next to it.
"""


def rebuild(
    workdir: str | pathlib.Path,
    *,
    checkpoint: str = 'last',
    split: str = 'test',
    data_dir: str | None = None,
    folder: str | pathlib.Path | None = None,
    model: str | None = None,
) -> pathlib.Path:
    """Writes the page of a checkpoint for a split to `workdir/report` or `folder`; returns its path."""
    from train import outcome
    from train.restored import restored
    from train.workdir import read_summary

    workdir = pathlib.Path(workdir).expanduser()
    with restored(workdir, checkpoint, split, data_dir=data_dir, model=model) as run:
        page = outcome.write(
            run.exp,
            run.state,
            split=split,
            scores=read_summary(workdir) | run.exp.evaluate(run.state, split),
            history=run.history,
            workdir=workdir,
            folder=pathlib.Path(folder) if folder else workdir / 'report',
        )
    assert page is not None  # one process
    return page


def expand(patterns: Sequence[str]) -> list[pathlib.Path]:
    """The folders that names and patterns (`runs/vit-*`) mean, in their order, each once."""
    found: dict[pathlib.Path, None] = {}
    for pattern in patterns:
        place = pathlib.Path(pattern).expanduser()
        matches = pathlib.Path(place.anchor).glob(str(place.relative_to(place.anchor)))
        folders = sorted(path for path in matches if path.is_dir())
        if not folders:
            raise UserError(f'--compare: {pattern} matches no folder; expected the workdirs of runs')
        found |= dict.fromkeys(folders)
    return list(found)


def main(argv: Sequence[str]) -> None:
    """Writes the page and says where it is."""
    parser = Parser('train.report', 'Write the report of a run again, or compare several runs.', EXAMPLES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--workdir', help='the folder of the run')
    what.add_argument('--compare', nargs='+', metavar='DIR', help='folders of runs, or patterns of them')
    arguments.add_restored(parser, checkpoint='last')
    parser.add_argument(
        '--to', default=None, help='folder for the page; default: report/ or comparison/ there'
    )
    args = parser.parse_args(argv[1:])
    if args.compare:
        from train.reporting import compare

        workdirs = expand(args.compare)
        together = os.path.commonpath([path.absolute().parent for path in workdirs])
        folder = pathlib.Path(args.to) if args.to else pathlib.Path(together) / 'comparison'
        page = compare.write(workdirs, folder)
    else:
        page = rebuild(
            args.workdir,
            checkpoint=args.checkpoint,
            split=args.split,
            data_dir=args.data_dir,
            folder=args.to,
            model=args.model,
        )
    print(f'report      {page}')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
