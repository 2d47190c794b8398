"""Our results and the published ones: means and deviations over seeds, differences, verdicts."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Iterable
from typing import Any

from train import published
from train.reproduction.experiment import Experiment
from train.reproduction.records import Record
from train.reproduction.suites import DOCUMENTS, SUITES

# How far from the mean a published accuracy may be, in points, in addition to two deviations.
TOLERANCE = 1.0
COMPARED = (
    'test_accuracy', 'best_test_accuracy', 'train_accuracy', 'train_loss', 'test_loss', 'macro_f1',
    'seconds_per_epoch', 'seconds',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A mean over seeds; `deviation` is the sample's, None for one seed."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: list[float]) -> 'Statistic':
        """Of the values of one quantity."""
        return cls(
            statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
        )

    def words(self, digits: int = 2) -> str:
        """Mean ± deviation."""
        deviation = '' if self.deviation is None else f' ± {self.deviation:.{digits}f}'
        return f'{self.mean:.{digits}f}{deviation}'

    __str__ = words


@dataclasses.dataclass(frozen=True)
class Row:
    """An experiment with its records, which may be none."""

    experiment: Experiment
    records: tuple[Record, ...]

    @property
    def published(self) -> dict[str, Any]:
        """The document's figures."""
        return self.experiment.published

    def ours(self, key: str) -> Statistic | None:
        """A quantity over our seeds."""
        values = [value for record in self.records if (value := score(record, key)) is not None]
        return Statistic.of(values) if values else None

    def class_accuracy(self) -> list[Statistic] | None:
        """Accuracy per class, 0 to 1, over our seeds."""
        if not self.records:
            return None
        columns = zip(*(record['scores']['class_accuracy'] for record in self.records), strict=True)
        return [Statistic.of(list(column)) for column in columns]

    def distance(self) -> float | None:
        """Ours minus published test accuracy, in points: the final one, or the best one where the experiment
        compares that; 0 inside a published 'over 97'."""
        key = self.experiment.compares
        ours = self.ours(key)
        if ours is None or key not in self.published:
            return None
        low, high = published.interval(self.published[key])
        return ours.mean - min(max(ours.mean, low), high)

    def verdict(self) -> str:
        """'reproduced', 'differs', or '' where nothing has run."""
        ours, distance = self.ours(self.experiment.compares), self.distance()
        if ours is None or distance is None:
            return ''
        return 'reproduced' if abs(distance) <= 2 * (ours.deviation or 0.0) + TOLERANCE else 'differs'


def rows(records: Iterable[Record], suites: Iterable[str] = DOCUMENTS) -> list[Row]:
    """A row for every experiment of the suites, recorded or not; of variations those that are recorded."""
    own: dict[str, list[Record]] = {}
    for record in records:
        own.setdefault(record['experiment'], []).append(record)
    found = [
        Row(experiment, tuple(own.get(experiment.name, ())))
        for suite in suites
        for experiment in SUITES[suite]
    ]
    return [row for row in found if row.records or not row.experiment.variation_of]


def score(record: Record, key: str) -> float | None:
    """A record's final score, of a whole evaluation of the training set where there was one."""
    if key == 'seconds':
        return sum(record['curve']['seconds'])
    whole = record['curve'].get(key.replace('train_', 'train_set_')) if key.startswith('train_') else None
    return whole[-1] if whole else record['scores'].get(key)


def table_csv(found: list[Row]) -> str:
    """Everything in the rows, one line per experiment, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    heads = ['experiment', 'choice', 'runs', 'parameters', 'parameters_with_dead', 'parameters_published']
    heads += [f'{key}_{part}' for key in COMPARED for part in ('mean', 'sd', 'published')]
    writer.writerow([*heads, 'difference', 'verdict'])
    for row in found:
        cells: list[Any] = [row.experiment.name, row.experiment.choice, len(row.records)]
        cells += [
            int(ours.mean) if (ours := row.ours(key)) else ''
            for key in ('parameters', 'published_parameters')
        ]
        cells.append(row.published.get('parameters', ''))
        for key in COMPARED:
            ours = row.ours(key)
            cells += ['', ''] if ours is None else [_digits(ours.mean), _digits(ours.deviation)]
            cells.append(row.published.get(key, ''))
        writer.writerow([*cells, _digits(row.distance()), row.verdict()])
    return text.getvalue()


def _digits(value: float | None) -> str:
    return '' if value is None else f'{value:.5g}'
