"""The reproduction as one HTML page: the verdicts, and our curves over the published ones."""

import html
from collections.abc import Sequence

from train.reproduction.records import Record
from train.reproduction.table import Row, rows

WIDTH, HEIGHT, LEFT, BOTTOM = 360, 220, 48, 34
STYLE = """
:root { color-scheme: light dark; --ours: #0072b2; --theirs: #d55e00; --line: #8885; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: 0.15rem 0.8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } .wide { overflow-x: auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } text { font-size: 11px; fill: currentColor; }
.ours { stroke: var(--ours); } .theirs { stroke: var(--theirs); } path.theirs { stroke-dasharray: 5 3; }
path, line { fill: none; stroke-width: 1.6; } line { stroke: var(--line); stroke-width: 1; }
"""

Points = Sequence[Sequence[float]]


def page(records: list[Record]) -> str:
    """The page, complete in itself: a table, and charts of every run that has a record."""
    found = [row for row in rows(records) if row.records]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>flaxnets: reproduction</title><style>{STYLE}</style></head><body>\n'
        '<h1>Reproduction of the documents</h1>\n'
        f'<div class="wide"><table>{_table(found)}</table></div>\n'
        '<p>Curves: <b style="color:var(--ours)">ours</b>, a line for each seed, and '
        '<b style="color:var(--theirs)">published</b>, dashed; a circle where only the final value is '
        'published. More figures and the findings are in docs/reproduction.md.</p>\n'
        f'<div class="charts">\n{"".join(map(_figures, found))}</div></body></html>\n'
    )


def _table(found: list[Row]) -> str:
    heads = ('experiment', 'seeds', 'test accuracy, %', 'published', 'difference', 'verdict')
    lines = ['<tr>' + ''.join(f'<th>{head}</th>' for head in heads) + '</tr>']
    for row in found:
        mean, distance = row.ours('test_accuracy'), row.distance()
        if mean is None or distance is None:
            continue
        deviation = '' if mean.deviation is None else f' ± {mean.deviation:.2f}'
        cells = [row.experiment.name, len(row.records), f'{mean.mean:.2f}{deviation}']
        cells += [row.published['test_accuracy'], f'{distance:+.2f}', row.verdict()]
        lines.append('<tr>' + ''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells) + '</tr>')
    return ''.join(lines)


def _figures(row: Row) -> str:
    """The charts of a row: test accuracy, and whatever else was published by epoch."""
    parts = []
    for key in ('test_accuracy', 'train_accuracy', 'test_loss', 'train_loss'):
        theirs = row.published['curve'].get(key, [])
        curves = [
            record['curve'].get(key.replace('train_', 'train_set_')) or record['curve'][key]
            for record in row.records
        ]
        ours = [list(enumerate(curve, 1)) for curve in curves]
        if key == 'test_accuracy' and not theirs and isinstance(final := row.published[key], int | float):
            theirs = [[len(ours[0]), final]]
        if theirs or key == 'test_accuracy':
            said = key.replace('_', ' ')
            label = said + (', %' if 'accuracy' in key else '')
            parts.append(
                f'<figure><figcaption>{html.escape(row.experiment.name)}: {said}</figcaption>'
                f'{chart(ours, theirs, label)}</figure>\n'
            )
    return ''.join(parts)


def chart(ours: Sequence[Points], theirs: Points, label: str) -> str:
    """An SVG of [epoch, value] points; `label` names the values and their unit."""
    points = [p for line in [*ours, theirs] for p in line]
    last = max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def at(point: Sequence[float]) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 14) * (point[0] - 1) / max(last - 1, 1)
        return round(x, 1), round(8 + (HEIGHT - BOTTOM - 8) * (high - point[1]) / (high - low), 1)

    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        y = at((1, value))[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 14}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.3g}</text>')
    for epoch in sorted({1, (1 + last) // 2, last}):
        parts.append(f'<text x="{at((epoch, low))[0]}" y="{HEIGHT - 20}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    middle = (HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{label}</text>'
    )
    for kind, line in [*(('ours', line) for line in ours), ('theirs', theirs)]:
        if len(line) == 1:
            x, y = at(line[0])
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" class="{kind}" fill="none" stroke-width="2"/>')
        elif line:
            way = 'M' + ' L'.join(f'{x} {y}' for x, y in map(at, line))
            parts.append(f'<path class="{kind}" d="{way}"/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
