"""Lists runs with their state and scores: `python -m train.runs [FOLDER ...]`."""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from flaxnets.errors import UserError
from train import cli
from train.arguments import Parser
from train.terminal import terminal

EXAMPLES = """
  python -m train.runs
  python -m train.runs runs /mnt/shared/runs --json
"""
COLUMNS = ('run', 'state', 'model', 'data', 'epochs', 'accuracy', 'best')


def describe(workdir: pathlib.Path) -> dict[str, Any] | None:
    """A run's row: where it is, its state, and its accuracies (percent); None if the folder is no run.

    While a run is unfinished its accuracies are those of its epochs so far, in metrics.jsonl. A file that is
    damaged is named as the run's state, and the others say what they can.
    """
    from train.checkpointing import lock
    from train.checkpointing.checkpoints import committed, stored_config
    from train.workdir import damaged, is_summary, read_json, read_metrics

    found, _ = stored_config(workdir)
    done, history, broken = read_json(workdir / 'summary.json'), read_metrics(workdir), damaged(workdir)
    if found is None and not history:
        return None
    config = found or {}
    done = done if is_summary(done) else {}
    last: dict[str, Any] = history[-1] if history else {}
    eval_split = 'validation' if 'validation_accuracy' in last else 'test'
    accuracies = [row[f'{eval_split}_accuracy'] for row in history if f'{eval_split}_accuracy' in row]
    epoch = done.get('epochs', last.get('epoch', 0))
    finished = done and (epoch >= config.get('epochs', 0) or done.get('stopped_by_patience'))
    if lock.in_use(workdir):
        state = 'running'
    elif broken:
        state = f'{" and ".join(broken)} cannot be read'
    elif finished:
        state = 'finished'
    else:
        state = 'stopped' if committed(workdir / 'checkpoints') else 'no checkpoint'
    return {
        'run': str(workdir),
        'state': state,
        'model': config.get('model', {}).get('name'),
        'data': config.get('data', {}).get('name'),
        'epochs': f'{epoch}/{config.get("epochs", "?")}',
        'accuracy': done.get('test_accuracy', accuracies[-1] if accuracies else None),
        'best': done.get(f'best_{eval_split}_accuracy', max(accuracies, default=None)),
    }


def list_runs(folders: Sequence[str | pathlib.Path] = ('runs',)) -> list[dict[str, Any]]:
    """The rows of all runs in or below the folders, the newest last."""
    places = [pathlib.Path(folder).expanduser() for folder in folders]
    for place in places:
        if not place.is_dir():
            raise UserError(
                f'{place}: expected a folder with runs, but there is none; name one, or train first'
            )
    configs = {path for place in places for path in place.rglob('config.json')}
    newest_last = sorted(configs, key=lambda path: (path.stat().st_mtime, path))
    return [row for path in newest_last if (row := describe(path.parent)) is not None]


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = Parser('train.runs', 'List runs with their state and scores.', EXAMPLES)
    parser.add_argument('folders', nargs='*', default=['runs'], help='where the runs are (default: runs)')
    parser.add_argument('--json', action='store_true', help='print the rows as JSON')
    args = parser.parse_args(argv[1:])
    rows = list_runs(args.folders)
    if args.json:
        print(json.dumps(rows))
        return
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(f'{v:.2f}%' if isinstance(v, float) else str(v or '') for v in row.values()))
    terminal().print(table, soft_wrap=False)


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
