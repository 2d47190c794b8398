"""The framework's tables as Markdown: `docs/reproduction_framework.md`, and that of the small network."""

import re
from collections.abc import Iterable
from typing import Any

from train.reproduction.records import Record
from train.reproduction.suites import SUITES
from train.reproduction.table import Row, rows

# Titles of the suites, and what a table's columns are: the part of a name that this finds.
PIVOTS: dict[str, tuple[str, dict[str, str]]] = {
    'framework_ratio': ('VGG-11 by ratio (similarity, compared, gathered)', {'ratio': r'-r([\d.]+)$'}),
    'framework_neighbors': ('VGG-11 by the number of neighbours, 100 epochs', {'K': r'-K(\d+)$'}),
    'framework_samples': (
        'VGG-11 by the number of random candidates, or by the side of their grid',
        {'N': r'(?<=random)-N(\d+)$', 'side': r'(?<=grid)-N(\d+)$'},
    ),
    'framework_vit': (
        'ViT-Tiny',
        {'heads': r'-heads(\d+)$', 'K': r'-K(\d+)$', 'N': r'-N(\d+)(?=-K9$)'},
    ),
}
SMALL = 'framework_small'
SHOWN = ('parameters', 'best_test_accuracy', 'test_accuracy', 'train_accuracy')
FAR = 5.0  # points
# The best accuracies on all of CIFAR-10 of VGG-11, cosine, features, at these ratios.
PUBLISHED = {
    share: SUITES['framework_ratio'][i].published['best_test_accuracy']
    for share, i in (('0', 0), ('0.5', 4), ('1', 8))
}


def markdown(records: Iterable[Record], detailed: Any) -> str:
    """The whole page; `detailed` makes the table of rows that have been run."""
    found = rows(records, PIVOTS)
    trained = sum(bool(row.records) for row in found)
    parts = [
        '# Reproduction of the framework',
        '<!-- Made by `python -m train.reproduce all --collect` from results/; do not edit. -->',
        f'Of {len(found)} published configurations (arXiv 2511.14137), {trained} have been run. A figure '
        'after the stroke is published: the best test accuracy over all epochs, in percent. So is ours, '
        'which stands before it where there is one. Several runs of one configuration are one figure, '
        'their mean; they differ by about a point. A published grid has other positions than ours: '
        '[neighbours.md](neighbours.md).',
        'All of these networks need a GPU:\n\n```sh\npython -m train.reproduce framework_ratio --list\n```',
    ]  # fmt: skip
    for suite, (title, columns) in PIVOTS.items():
        own = [row for row in found if row.experiment.suite == suite]
        parts.append(f'## {title}')
        parts += [pivot(own, name, pattern, least=min(len(columns), 2)) for name, pattern in columns.items()]
        if run := [row for row in own if row.records]:
            parts.append(detailed(run))
    return '\n\n'.join(parts) + '\n'


def pivot(found: list[Row], name: str, pattern: str, least: int) -> str:
    """A table with a column for each number that `pattern` finds in the experiments' names, and a row for
    what is left of them; rows with fewer than `least` figures stand in another table."""
    table: dict[str, dict[str, Row]] = {}
    for row in found:
        if number := re.search(pattern, row.experiment.short):
            rest = row.experiment.short.replace(number[0], '')
            table.setdefault(rest, {})[number[1]] = row
    table = {rest: cells for rest, cells in table.items() if len(cells) >= least}
    columns = sorted({column for cells in table.values() for column in cells}, key=float)
    lines = [
        '| ' + ' | '.join(['', *(f'{name} {c}' for c in columns)]) + ' |',
        '|---|' + '---:|' * len(columns),
    ]
    for rest in sorted(table):
        lines.append('| ' + ' | '.join([rest, *(cell(table[rest].get(c)) for c in columns)]) + ' |')
    return '\n'.join(lines)  # fmt: skip


def cell(row: Row | None) -> str:
    """Ours / published."""
    if row is None:
        return ''
    ours = row.ours('best_test_accuracy')
    return f'{ours or ""} / {row.published["best_test_accuracy"]:.2f}'.strip()


def small(records: Iterable[Record]) -> list[str]:
    """The small network's table and what it says of the published order; nothing where nothing has run."""
    found = {row.experiment.short.removeprefix('ratio-'): row for row in rows(records, [SMALL])}
    if not any(row.records for row in found.values()):
        return []
    first = next(record for row in found.values() for record in row.records)
    config = first['config']
    parts = [
        '## The framework on a small network',
        f'VGG-11 with the widths {config["model.widths"]}, branching, all candidates, K = '
        f'{config["model.num_neighbors"]}, on {config["data.limit"]:,} training and '
        f'{config["data.test_limit"]:,} test images of CIFAR-10, {config["epochs"]} epochs. The '
        'published figures are of the full VGG-11 on all of CIFAR-10 after 150 epochs '
        '([reproduction_framework.md](reproduction_framework.md)). *Best* is over '
        'all epochs, on the test images.',
    ]
    lines = [
        '| ratio | seeds | parameters | best test accuracy | final test accuracy | training accuracy '
        '| published |',
        '|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for share in sorted(found, key=float):
        row, figures = found[share], {}
        for key in SHOWN:
            figures[key] = row.ours(key)
        parameters = figures.pop('parameters')
        cells = [share, str(len(row.records) or ''), f'{int(parameters.mean):,}' if parameters else '']
        cells += [str(ours or '') for ours in figures.values()]
        lines.append('| ' + ' | '.join([*cells, f'{PUBLISHED[share]:.2f}']) + ' |')
    return [*parts, '\n'.join(lines), *order(found)]


def order(found: dict[str, Row]) -> list[str]:
    """Whether ratio 0.5 is at least as good as 0, and 1 far below 0."""
    best = {share: ours.mean for share, row in found.items() if (ours := row.ours('best_test_accuracy'))}
    if len(best) < len(found):
        return []

    def gap(a: str, b: str) -> str:
        return f'{best[a] - best[b]:+.2f} points (published {PUBLISHED[a] - PUBLISHED[b]:+.2f})'

    half = 'appears' if best['0.5'] >= best['0'] else 'does not appear'
    one = 'appears' if best['0'] - best['1'] > FAR else 'does not appear'
    return [
        f'Of the published order, that ratio 0.5 is at least as good as 0 {half}: {gap("0.5", "0")}, '
        f'{spread(found)}. That 1 is more than {FAR:g} points below 0 {one}: {gap("1", "0")}. The training '
        'accuracies show how far from converged these short runs are; the published ones end at 97 to 100%.'
    ]


def spread(found: dict[str, Row]) -> str:
    """How the difference between 0.5 and 0 compares with that between seeds."""
    half, none = (found[share].ours('best_test_accuracy') for share in ('0.5', '0'))
    if half is None or none is None or half.deviation is None or none.deviation is None:
        return 'of one seed'
    error = (half.deviation**2 / half.count + none.deviation**2 / none.count) ** 0.5
    return f'standard error {error:.2f}'
