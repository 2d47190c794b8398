"""Curves over epochs: loss, accuracy, learning rate, time. Rows are those of metrics.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.reporting.figures import DASHES, LIGHT, SERIES, figure, styled

Rows = Sequence[Mapping[str, Any]]

# The beginning of a row's keys: how it is called, colour, dashes. Dotted are published figures alone.
SETS = {
    'train': ('train', 'blue', '--'),
    'train_set': ('train, whole set', 'brown', '-.'),
    'validation': ('validation', 'green', '-'),
    'test': ('test', 'orange', '-'),
    'ema_validation': ('validation, averaged parameters', 'amber', '-.'),
    'ema_test': ('test, averaged parameters', 'amber', '-.'),
}


@styled
def learning_curve(rows: Rows, score: str, *, published: Mapping[str, Any] | None = None) -> Any:
    """Train, validation and test 'loss' or 'accuracy' by epoch, final values in the legend.

    `published` are figures as `train.published.figures` gives them, drawn dotted: a curve, or a level where
    only the last value is known.
    """
    drawn, axes = figure()
    unit = '%' if score == 'accuracy' else ''
    digits = 2 if score == 'accuracy' else 4
    for key, (name, colour, dashes) in SETS.items():
        points = [(row['epoch'], row[f'{key}_{score}']) for row in rows if f'{key}_{score}' in row]
        if points:
            label = f'{name} {points[-1][1]:.{digits}f}{unit}'
            line(axes, points, label, color=LIGHT[colour], linestyle=dashes)
        if theirs := points_of(published or {}, f'{key}_{score}', rows):
            label = f'{name}, published {theirs[-1][1]:.{digits}f}{unit}'
            line(axes, theirs, label, color=LIGHT['purple' if key == 'test' else 'muted'], linestyle=':')
    axes.set(xlabel='epoch', ylabel='cross entropy (nats)' if score == 'loss' else 'accuracy (%)')
    finish(drawn, axes, rows)
    return drawn


def points_of(published: Mapping[str, Any], key: str, rows: Rows) -> Sequence[tuple[float, float]]:
    """(epoch, value) of a published curve; of a level as long as our rows; none where nothing is known."""
    if points := published.get('curve', {}).get(key):
        return points
    level = published.get(key)
    return [(row['epoch'], level) for row in rows] if isinstance(level, float) else []


@styled
def by_epoch(rows: Rows, key: str, label: str, unit: str = '', *, colour: str = 'blue') -> Any:
    """One key of the rows by epoch, from 0 up; `label` is the axis', unit included."""
    drawn, axes = figure(height=2.6)
    points = [(row['epoch'], row[key]) for row in rows if key in row]
    tiny = max(value for _, value in points) < 0.001
    last = f'{plain(points[-1][1], tiny=tiny)} {unit}'.strip()
    line(axes, points, f'{last} in the last epoch', color=LIGHT[colour])
    axes.set(xlabel='epoch', ylabel=label)
    axes.yaxis.set_major_formatter(lambda value, _: plain(value, tiny=tiny))
    axes.set_ylim(bottom=0)
    finish(drawn, axes, rows)
    return drawn


@styled
def overlay(groups: Mapping[str, Sequence[Rows]], key: str, label: str) -> Any:
    """One row key of several runs, by name; runs of one name, which differ in their seeds, as the mean and a
    band of one standard deviation around it."""
    drawn, axes = figure(height=2.9 + 0.17 * len(groups))
    longest: Rows = ()
    form = '.2f' if key.endswith('accuracy') else '.4f'
    for number, (name, runs) in enumerate(groups.items()):
        values = [[row[key] for row in rows if key in row] for rows in runs]
        epochs = range(1, 1 + min(map(len, values)))
        if not epochs:
            continue
        stacked = np.array([run[: len(epochs)] for run in values])
        mean, colour = stacked.mean(0), LIGHT[SERIES[number % len(SERIES)]]
        dashes = DASHES[(number + number // len(SERIES)) % len(DASHES)]
        points = list(zip(epochs, mean, strict=True))
        line(axes, points, f'{name}: {mean[-1]:{form}}', color=colour, linestyle=dashes)
        if len(runs) > 1:
            deviation = stacked.std(0, ddof=1)
            axes.fill_between(
                epochs, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0
            )
        longest = max(longest, runs[0], key=len)
    axes.set(xlabel='epoch', ylabel=label)
    finish(drawn, axes, longest)
    return drawn


def plain(value: float, *, tiny: bool = False) -> str:
    """A number with about four digits: 12,346 or 0.6033; of `tiny` ones with an exponent, 1e-4."""
    if tiny and value:
        digits, _, exponent = f'{value:.3e}'.partition('e')
        return f'{float(digits):g}e{int(exponent)}'
    return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.4g}'


def line(axes: Any, points: Sequence[tuple[float, float]], label: str, **style: Any) -> None:
    """A labelled line; one point is a dot."""
    x, y = zip(*points, strict=True)
    axes.plot(x, y, label=label, marker='o' if len(points) == 1 else None, markersize=4, **style)


def finish(drawn: Any, axes: Any, rows: Rows) -> None:
    """The legend above the axes, where it hides nothing."""
    whole_epochs(axes, rows)
    columns = 1 if max(map(len, axes.get_legend_handles_labels()[1]), default=0) > 28 else 2
    drawn.legend(loc='outside upper left', ncols=columns, handlelength=2.6, columnspacing=1.4)


def whole_epochs(axes: Any, rows: Rows) -> None:
    """Ticks at whole epochs only."""
    axes.xaxis.get_major_locator().set_params(integer=True)
    longest = max((len(line.get_xdata()) for line in axes.lines), default=0)
    if len(rows) == longest == 1:
        axes.set_xlim(rows[0]['epoch'] - 1, rows[0]['epoch'] + 1)
        axes.set_xticks([rows[0]['epoch']])
