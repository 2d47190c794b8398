"""A benchmark's numbers for people."""

from typing import Any

from rich.table import Table

from train.benchmarks import sample
from train.memory import megabytes
from train.terminal import terminal

NAMES = {'device': 'device placement', 'stream': 'stream placement'}


def show(results: dict[str, Any]) -> None:
    """Prints the hardware and a table for each section."""
    console = terminal()
    machine, measured, args = results['hardware'], results['data'], results['arguments']
    console.print(
        f'{machine["processor"]}, {machine["cores"]} cores, device {machine["device"]}, '
        f'{megabytes(machine["available_memory"])} free, load {machine["load_average"]:.1f} at the start',
    )
    title = f'{measured["images"]:,} images of {args["name"]}, batch {args["batch_size"]}'
    console.print(sources(measured['sources'], f'{title}: images/s', args['workers']))
    console.print(placements(measured['placements'], f'{title}: an epoch of augmented batches'))
    whole, ready, share, alone = (measured['step'][key] for key in ('whole', 'ready', 'share', 'alone'))
    console.print(
        f'cnn step: {1000 * whole:.1f} ms from images on the device, {1000 * ready:.1f} ms from a ready '
        f'batch: gathering, cropping, flipping and normalising take {100 * share:.1f}%; '
        f'by themselves {1000 * alone:.1f} ms, {100 * alone / whole:.1f}% (goal: under 3%)',
    )
    resident, decoded = measured['memory']['resident'], measured['memory']['decode']
    console.print(
        f'memory: {megabytes(resident["images"])} of images take {megabytes(resident["grown"])} on the '
        f'device ({resident["grown"] / resident["images"]:.2f} times; goal: at most 1.1); decoding them, the '
        f'process has at most {megabytes(decoded["peak"])} (goal: at most 1 GB)',
    )


def sources(rates: dict[str, dict[str, float]], title: str, workers: int) -> Table:
    """A row for each format."""
    table = Table(title=title)
    for heading in ('source', 'read and decoded, once', f'torch DataLoader, {workers} workers, every epoch'):
        table.add_column(heading, justify='left' if heading == 'source' else 'right')
    for form, row in rates.items():
        without = 'torch cannot read it' if form == sample.TF_RECORD else 'torch is not installed'
        table.add_row(form, f'{row["decode"]:,.0f}', f'{row["torch"]:,.0f}' if 'torch' in row else without)
    return table


def placements(rates: dict[str, float], title: str) -> Table:
    """A row for each way, and how many times as fast it is as torch's loader."""
    table = Table(title=title)
    for heading in ('batches from', 'images/s', 'compared with torch'):
        table.add_column(heading, justify='left' if heading == 'batches from' else 'right')
    for name, value in rates.items():
        ratio = f'{value / rates["torch"]:.1f}x' if 'torch' in rates else 'torch is not installed'
        table.add_row(NAMES.get(name, 'torch DataLoader, images in memory'), f'{value:,.0f}', ratio)
    return table
