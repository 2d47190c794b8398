"""The numbers of `benchmarks.training` as tables: for the terminal, and as Markdown for a page."""

import re
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from flaxnets.errors import UserError
from train.benchmarks.training import COMPILED, EAGER, OURS, PUBLISHED, VARIANTS
from train.terminal import terminal

# What the project aims at on two CPU cores: PyTorch's time / ours, by the beginning of the model's name.
GOALS = {'convnn': (PUBLISHED, 2.5), 'branching': (PUBLISHED, 2.5), 'attention': (EAGER, 1.2)}
GOALS |= {'vit': (EAGER, 1.2), 'mlp': (EAGER, 1.2)}
OTHERWISE = (EAGER, 1.0)
GPU_GOALS = {EAGER: 5.0, COMPILED: 2.0}

Cells = list[list[str]]


def speed(rows: Sequence[dict[str, Any]]) -> Cells:
    """A row of cells for each config, after one of titles: what a step takes here."""
    titles = ['config', 'batch', 'step, ms', 'steps/s', 'images/s', 'evaluated/s', 'compile, s']
    titles += ['first step, s', 'dispatch, ms', 'memory, MB', 'GFLOP a step', 'of peak']
    cells = [titles]
    for row in rows:
        cells.append(
            [
                row['config'],
                str(row['batch_size']),
                milliseconds(row['train'][OURS]),
                f'{row["steps_per_second"]:,.1f}',
                f'{row["images_per_second"]:,.0f}',
                f'{row["evaluated_per_second"]:,.0f}',
                f'{row["compile_seconds"]:.1f}',
                f'{row["first_step_seconds"]:.1f}',
                f'{1000 * row["dispatch_seconds"]:.2f}',
                f'{row["memory"]["peak"] / 1e6:,.0f}',
                f'{row["flops"] / 1e9:.2f}',
                f'{100 * row["share_of_peak"]:.0f}%',
            ]
        )
    return cells


def comparison(rows: Sequence[dict[str, Any]], results: dict[str, Any]) -> Cells:
    """Likewise: the time of each contender / ours, median and quartiles."""
    measured = {way for row in rows for way in row['train_ratio']}
    ways = [way for way in (EAGER, PUBLISHED, COMPILED, *VARIANTS) if way in measured]
    goals = results['platform'] != 'cpu' or results['hardware']['cores'] > 1  # they are for two cores
    cells = [['config', 'ours, ms', f'{EAGER}, ms', *(f'{way} / ours' for way in ways), 'evaluation', 'goal']]
    for row in rows:
        eager = row['train'].get(EAGER)
        evaluation = row['evaluate_ratio'].get(EAGER)
        cells.append(
            [
                row['config'],
                milliseconds(row['train'][OURS]),
                milliseconds(eager) if eager else '',
                *(ratio(row['train_ratio'][way]) if way in row['train_ratio'] else '' for way in ways),
                ratio(evaluation) if evaluation else '',
                verdict(row, results['platform']) if goals else '',
            ]
        )
    return cells


def verdict(row: dict[str, Any], platform: str) -> str:
    """The goal, and whether the medians reach it."""
    goals = [goal_of(row)] if platform == 'cpu' else list(GPU_GOALS.items())
    said = []
    for way, least in goals:
        if way in row['train_ratio']:
            reached = row['train_ratio'][way]['median']
            met = 'met' if reached >= least else f'missed by {100 * (1 - reached / least):.0f}%'
            said.append(f'{least:g} of {way}: {met}')
    return '; '.join(said)


def goal_of(row: dict[str, Any]) -> tuple[str, float]:
    """What a config is compared with on a CPU, and the least ratio that is wanted."""
    return next((goal for name, goal in GOALS.items() if row['model'].startswith(name)), OTHERWISE)


def short(results: dict[str, Any]) -> str:
    """All configs in a few lines, for the README: ratios of a training step (and an evaluated batch)."""
    kinds = {
        (PUBLISHED, 2.5): 'ConvNN, branching (PyTorch as published)',
        (EAGER, 1.2): 'attention, ViT, MLP',
        OTHERWISE: 'plain convolutions',
    }
    of, versions = results['hardware'], results['hardware']['versions']
    where = f'{of["cores"]} core{"s" * (of["cores"] > 1)} of {of["processor"]}, jax {versions["jax"]}'
    where += f', PyTorch {results["torch"]}: [docs/speed.md](docs/speed.md)' if results.get('torch') else ''
    cells = [[f'speed on {where}', "PyTorch's time / ours: a training step (an evaluated batch)"]]
    for goal, kind in kinds.items():
        said = []
        for row in results['training']:
            if goal_of(row) == goal and goal[0] in row['train_ratio']:
                step, evaluated = row['train_ratio'][goal[0]], row['evaluate_ratio'][EAGER]
                name = row['config'].removeprefix('convnn:model=')
                said.append(f'{name} {step["median"]:.1f} ({evaluated["median"]:.1f})')
        cells.append([kind, ', '.join(said)])
    return table(cells)


def milliseconds(values: dict[str, float]) -> str:
    """The median."""
    return f'{1000 * values["median"]:.3g}'


def ratio(values: dict[str, float]) -> str:
    """1.52 (1.49 to 1.60)."""
    return f'{values["median"]:.2f} ({values["low"]:.2f} to {values["high"]:.2f})'


def failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What could not be run, and why."""
    return [f'{row["config"]}: {way}: {reason}' for row in rows for way, reason in row['failed'].items()]


def show(results: dict[str, Any]) -> None:
    """Prints the tables."""
    console = terminal()
    console.print(machine(results))
    rows = results['training']
    tables = [speed(rows)]
    if any(row['train_ratio'] for row in rows):
        tables.append(comparison(rows, results))
    for cells in tables:
        table = Table()
        for i, title in enumerate(cells[0]):
            table.add_column(title, justify='right' if i else 'left')
        for row in cells[1:]:
            table.add_row(*row)
        console.print(table)
    for line in failures(rows):
        console.print(line)


def machine(results: dict[str, Any]) -> str:
    """What was measured on, in a line."""
    of, versions = results['hardware'], results['hardware']['versions']
    torch = f', PyTorch {results["torch"]}' if results.get('torch') else ''
    return (
        f'{of["processor"]}, {of["cores"]} core{"s" * (of["cores"] > 1)}, device {of["device"]}, '
        f'load {of["load_average"]:.1f} at the start; '
        f'jax {versions["jax"]}{torch}; {results["rounds"]} rounds'
    )


def markdown(results: dict[str, Any]) -> str:
    """The tables for a page."""
    rows = results['training']
    parts = [f'Measured on {machine(results)}.', table(comparison(rows, results))]
    if 'variants' in results:
        parts.append(table(comparison(results['variants'], results)))
    if 'deterministic' in results:
        same = 'the same bits' if results['deterministic']['same_bits'] else 'other bits'
        parts.append(f'`{results["deterministic"]["config"]}`, trained twice with `deterministic`: {same}.')
    parts += [table(speed(rows)), '\n'.join(f'- {line}' for line in failures(rows))]
    return '\n\n'.join(filter(None, parts))


def table(cells: Cells) -> str:
    """Cells as a Markdown table."""
    lines = [' | '.join(line) for line in cells]
    lines.insert(1, ' | '.join(['---', *['---:'] * (len(cells[0]) - 1)]))
    return '\n'.join(f'| {line} |' for line in lines)


def into(text: str, results: dict[str, Any]) -> str:
    """The page `text` with new tables between its marks, `<!-- benchmark cpu -->` and its end, or with what
    `short` makes between `<!-- benchmark cpu short -->`.

    Raises:
        UserError: the page has no such marks.
    """
    name = f'benchmark {results["platform"]}'
    if f'<!-- {name} short -->' in text:
        return between(text, f'{name} short', short(results))
    return between(text, name, markdown(results))


def between(text: str, name: str, made: str) -> str:
    """The page `text` with `made` between its marks, `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        UserError: the page has no such marks.
    """
    mark = re.compile(rf'(<!-- {name} -->\n).*?(<!-- /{name} -->)', re.DOTALL)
    if not mark.search(text):
        raise UserError(f'--into: expected the lines <!-- {name} --> and <!-- /{name} -->, found none')
    return mark.sub(lambda found: f'{found[1]}{made}\n{found[2]}', text)
