"""The reproduction as one HTML page: the verdicts, and our curves over the published ones."""

import html
from collections.abc import Sequence

from train.reproduction.records import Record
from train.reproduction.table import Row, rows

WIDTH, HEIGHT, LEFT, BOTTOM = 360, 220, 48, 34
STYLE = """
:root { color-scheme: light dark; --ours: #0072b2; --theirs: #d55e00; --line: #8885; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; } figcaption span { font-weight: 400; }
svg { width: 100%; height: auto; } text { font-size: 11px; fill: currentColor; }
.ours { stroke: var(--ours); } .theirs { stroke: var(--theirs); stroke-dasharray: 5 3; }
path, line { fill: none; stroke-width: 1.6; } line { stroke: var(--line); stroke-width: 1; }
"""

Points = Sequence[Sequence[float]]


def page(records: list[Record]) -> str:
    """The page, complete in itself: charts of the test accuracy of every run that has a record."""
    figures = '\n'.join(_figure(row) for row in rows(records) if row.records)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>flaxnets: reproduction</title><style>{STYLE}</style></head><body>\n'
        '<h1>Reproduction of the documents</h1>\n'
        '<p>Test accuracy by epoch: <b style="color:var(--ours)">ours</b>, one line a seed, and '
        '<b style="color:var(--theirs)">published</b>, dashed; a dot where only the final value '
        'is published. The tables are in docs/reproduction.md.</p>\n'
        f'<div class="charts">\n{figures}\n</div></body></html>\n'
    )


def _figure(row: Row) -> str:
    ours = [list(enumerate(record['curve']['test_accuracy'], 1)) for record in row.records]
    theirs = row.published['curve'].get('test_accuracy', [])
    final = row.published.get('test_accuracy')
    if not theirs and isinstance(final, int | float):
        theirs = [[len(ours[0]), final]]
    mean = row.ours('test_accuracy')
    said = f'{mean.mean:.2f}%, published {final}; {row.verdict()}' if mean else ''
    caption = f'{html.escape(row.experiment.name)} <span>{html.escape(said)}</span>'
    return f'<figure><figcaption>{caption}</figcaption>{chart(ours, theirs)}</figure>'


def chart(ours: Sequence[Points], theirs: Points) -> str:
    """An SVG of accuracy in percent over epochs."""
    points = [p for line in [*ours, theirs] for p in line]
    last = max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    low, high = max(0.0, low - 0.05 * (high - low) - 0.5), min(100.0, high + 0.05 * (high - low) + 0.5)

    def at(point: Sequence[float]) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 8) * (point[0] - 1) / max(last - 1, 1)
        return round(x, 1), round(8 + (HEIGHT - BOTTOM - 8) * (high - point[1]) / (high - low), 1)

    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        y = at((1, value))[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.1f}</text>')
    for epoch in sorted({1, (1 + last) // 2, last}):
        parts.append(f'<text x="{at((epoch, low))[0]}" y="{HEIGHT - 20}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    middle = (HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">'
        'test accuracy, %</text>'
    )
    for kind, line in [*(('ours', line) for line in ours), ('theirs', theirs)]:
        if len(line) == 1:
            x, y = at(line[0])
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" class="{kind}" fill="none" stroke-width="2"/>')
        elif line:
            way = 'M' + ' L'.join(f'{x} {y}' for x, y in map(at, line))
            parts.append(f'<path class="{kind}" d="{way}"/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
