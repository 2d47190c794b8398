"""What `benchmarks.profile` has measured, for people."""

from typing import Any

from rich.table import Table

from train.terminal import terminal

OWN = 'own, ms'


def show(profile: dict[str, Any]) -> None:
    """The modules, the costliest of them, the operators and the memory."""
    out, step = terminal(), profile['step_seconds']['median']
    out.print(f'{profile["config"]}: batch {profile["batch_size"]}, {1000 * step:.1f} ms a training step')
    table = Table()
    for title in (
        'module',
        'parameters',
        'multiply-adds',
        'forward, ms',
        'backward, ms',
        OWN,
        'share of step',
    ):
        table.add_column(title, justify='left' if title == 'module' else 'right')
    for line in profile['modules']:
        both = line['forward_seconds'] + line['backward_seconds']
        table.add_row(
            '  ' * line['depth'] + line['module'],
            f'{line["parameters"]:,}',
            f'{line["multiply_adds"]:,}',
            f'{1000 * line["forward_seconds"]:.2f}',
            f'{1000 * line["backward_seconds"]:.2f}',
            f'{1000 * line["own_seconds"]:.2f}',
            f'{100 * both / step:.0f}%',
        )
    for name, seconds in profile['around_seconds'].items():
        table.add_row(name, '', '', '', '', f'{1000 * seconds:.2f}', f'{100 * seconds / step:.0f}%')
    out.print(table)
    modules, around = profile['modules_seconds'], sum(profile['around_seconds'].values())
    out.print(
        f'Alone, the modules take {1000 * modules:.1f} ms and the rest {1000 * around:.1f} ms. The step '
        f'takes {step / modules:.2f} times the modules, {step / (modules + around):.2f} times all of them.'
    )
    if profile['comparisons']:
        out.print(
            f'Choosing neighbours takes {profile["comparisons"] / 1e6:,.1f} million comparisons a step '
            f'beside the multiply-adds; {profile["gathered"] / 1e6:,.1f} million values are gathered.'
        )
    out.print(f'Costliest: {profile["costliest"]}, {100 * profile["costliest_share"]:.0f}% of the step.')
    table = Table()
    for title in ('operator', 'ms a step', 'times a step'):
        table.add_column(title, justify='left' if title == 'operator' else 'right')
    for line in profile['operators']:
        table.add_row(line['operator'], f'{1000 * line["seconds"]:.2f}', f'{line["times"]:.0f}')
    out.print(table)
    memory = profile['memory']
    out.print(
        f'Memory of a step: {memory["peak"] / 1e6:,.0f} MB, of them state and images '
        f'{memory["arguments"] / 1e6:,.0f}, temporary {memory["temporary"] / 1e6:,.0f}'
    )


def compare(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two profiles side by side, and what the second one saves."""
    table = Table()
    for title in ('', one['config'], other['config'], 'change'):
        table.add_column(title, justify='right' if title else 'left')
    rows = [
        ('step, ms', *(1000 * p['step_seconds']['median'] for p in (one, other))),
        ('GFLOP a step', *(p['flops'] / 1e9 for p in (one, other))),
        ('parameters', *(p['parameters'] for p in (one, other))),
        ('memory, MB', *(p['memory']['peak'] / 1e6 for p in (one, other))),
    ]
    for name, before, after in rows:
        table.add_row(name, f'{before:,.5g}', f'{after:,.5g}', f'{100 * (after / before - 1):+.1f}%')
    before, after = one.get('test_accuracy'), other.get('test_accuracy')
    shown = ['no run' if a is None else f'{a:.2f}%' for a in (before, after)]
    gained = '' if before is None or after is None else f'{after - before:+.2f} points'
    table.add_row('test accuracy', *shown, gained)
    out = terminal()
    out.print(table)
    for profile in (one, other):
        out.print(f'Costliest of {profile["config"]}: {profile["costliest"]}')
