"""Several runs on one page: their curves in one picture, their scores in one table.

Runs whose configs differ only in the seed are grouped: mean and standard deviation.
"""

import collections
import dataclasses
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from flaxnets.interop.atomic import write_json, write_text
from train import config as options
from train.checkpointing.best import best_row
from train.checkpointing.checkpoints import read_config
from train.reporting import curves, page
from train.reporting.figures import png
from train.reporting.page import Cell, Picture, Section, number, word
from train.workdir import read_metrics, read_summary

COLUMNS = (
    'run', 'model', 'differs in', 'parameters', 'best %', 'final %', 'difference', 'loss',
    'epochs', 's/epoch', 'images/s',
)  # fmt: skip
# Options that differ; where there are more, those at their defaults are not shown.
FEW = 5


@dataclasses.dataclass(frozen=True)
class Run:
    """The files of a run, finished or not: options by key, the epochs' rows, the summary."""

    name: str
    options: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def eval_split(self) -> str:
        """The split that was scored after each epoch."""
        return 'validation' if 'validation_accuracy' in self.history[-1] else 'test'

    def scores(self) -> dict[str, float]:
        """Best and final accuracy (percent), final loss, seconds per epoch, images per second."""
        accuracy = f'{self.eval_split}_accuracy'
        last = self.history[-1]
        best = best_row(self.history, self.eval_split, self.options['checkpoint.metric'])
        return {
            'best': best[accuracy],
            'final': self.summary.get('test_accuracy', last[accuracy]),
            'loss': self.summary.get('test_loss', last[f'{self.eval_split}_loss']),
            'seconds': statistics.median(row['seconds'] for row in self.history),
            'speed': statistics.median(row['images_per_second'] for row in self.history),
        }


def read(workdir: pathlib.Path) -> Run:
    """The run in `workdir`; a `UserError` where there is none, or none with a finished epoch."""
    config = read_config(workdir, builds=False)
    if config is None:
        raise UserError(
            f'--compare: expected the folders of runs, but {workdir} does not exist or is not one'
        )
    history = read_metrics(workdir)
    if not history:
        raise UserError(f'--compare: {workdir} has no finished epoch in its metrics.jsonl; leave it out')
    return Run(workdir.name, options.flatten(config), history, read_summary(workdir))


def write(workdirs: Sequence[pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    """Writes the page that compares these runs, its pictures and numbers; returns the page's path."""
    runs = [read(workdir) for workdir in workdirs]
    names = distinct([run.name for run in runs], workdirs)
    runs = [dataclasses.replace(run, name=name) for run, name in zip(runs, names, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    groups = by_seed(runs)
    eval_split = runs[0].eval_split
    section = Section('Curves')
    histories = {name: [run.history for run in group] for name, group in groups.items()}
    for key, title, label in (
        (f'{eval_split}_accuracy', f'{eval_split.capitalize()} accuracy', 'accuracy (%)'),
        (f'{eval_split}_loss', f'{eval_split.capitalize()} loss', 'cross entropy (nats)'),
        ('train_loss', 'Train loss', 'cross entropy (nats)'),
        ('train_accuracy', 'Train accuracy', 'accuracy (%)'),
    ):
        caption = 'Final values after the names.'
        if len(groups) < len(runs):
            caption += ' Several seeds: their mean, and one standard deviation on either side.'
        picture = Picture(f'compare_{key}', title, caption, curves.overlay(histories, key, label))
        section.parts.append(picture.as_html())
        png(picture.figure, folder / f'{picture.name}.png')
    tables = Section('Runs', [table(runs)])
    if len(groups) < len(runs):
        tables.parts.append(seed_table(groups))
    write_json(folder / 'compare.json', [dataclasses.asdict(run) | {'scores': run.scores()} for run in runs])
    text = page.page(f'{len(runs)} runs compared', ', '.join(names), [tables, section])
    write_text(folder / 'index.html', text)
    return folder / 'index.html'


def table(runs: Sequence[Run]) -> str:
    """A row for each run; differences are to the first one's final accuracy."""
    first = runs[0].scores()['final']
    rows = []
    for run, different in zip(runs, differences(runs), strict=True):
        scores = run.scores()
        rows.append(
            [
                word(run.name),
                word(run.options['model.name']),
                word(different),
                number(run.summary.get('parameters'), ',d'),
                number(scores['best']),
                number(scores['final']),
                number(scores['final'] - first, '+.2f'),
                number(scores['loss'], '.4f'),
                number(len(run.history), 'd'),
                number(scores['seconds'], ',.2f'),
                number(scores['speed'], ',.0f'),
            ]
        )
    return page.table(COLUMNS, rows, title=f'{runs[0].eval_split.capitalize()} accuracy and loss', wide=True)


def seed_table(groups: dict[str, list[Run]]) -> str:
    """A row for each set of runs that differ in their seeds only."""
    rows = []
    for name, group in groups.items():
        scores = [run.scores() for run in group]
        cells = [
            mean([one[key] for one in scores], form)
            for key, form in (('best', '.2f'), ('final', '.2f'), ('loss', '.4f'), ('seconds', '.2f'))
        ]
        rows.append([word(name), number(len(group), 'd'), *cells])
    columns = ('runs', 'seeds', 'best %', 'final %', 'loss', 's/epoch')
    return page.table(columns, rows, title='Mean ± standard deviation over seeds', wide=True)


def mean(values: Sequence[float], form: str) -> Cell:
    """Mean ± sample standard deviation."""
    if len(values) == 1:
        return number(values[0], form)
    middle = statistics.mean(values)
    return Cell(f'{middle:{form}} ± {statistics.stdev(values):{form}}', middle)


def by_seed(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ only in the seed (and in where their data are), under the first one's name.

    A seed comes once in a group: a second run of it, as after a change of the code, stands by itself.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    made: collections.Counter[tuple[Any, ...]] = collections.Counter()
    for run in runs:
        key = tuple(
            sorted(
                (name, repr(value)) for name, value in run.options.items() if decides(name) and name != 'seed'
            )
        )
        same = (*key, repr(run.options['seed']))
        groups.setdefault((*key, made[same]), []).append(run)
        made[same] += 1
    return {
        group[0].name + (f' ({len(group)} seeds)' if len(group) > 1 else ''): group
        for group in groups.values()
    }


def differences(runs: Sequence[Run]) -> list[str]:
    """For each run its values of the options that are not the same in all runs; of many such options only
    those that are not at their defaults."""
    names = sorted({name for run in runs for name in run.options if decides(name)})
    absent = object()
    varied = [name for name in names if len({repr(run.options.get(name, absent)) for run in runs}) > 1]
    short = [name for name in varied if name != 'model.name']
    usual = options.flatten(options.defaults()) if len(short) > FEW else {}
    return [
        ', '.join(
            f'{name.removeprefix("model.")}={run.options[name]}'
            for name in short
            if name in run.options and run.options[name] != usual.get(name, absent)
        )
        for run in runs
    ]


def decides(name: str) -> bool:
    """Whether an option decides what is computed."""
    return name == 'epochs' or not name.startswith(options.MUTABLE)


def distinct(names: Sequence[str], workdirs: Sequence[pathlib.Path]) -> list[str]:
    """The folders' names, with their parents where two are equal."""
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, workdirs, strict=True)]
