"""An estimate of data parallelism from parameters and multiply-adds: `python -m train.scaling [--devices N]`.

Every step adds the gradients of all devices. In a ring each device sends 2 (n - 1) / n times their size,
whatever the batch is, while the arithmetic grows with the batch. The gradients of one layer can be sent
while the layers below are still computed, which costs no time if

    latency + 2 (n - 1) / n * 4 bytes * parameters / bandwidth  <=  4 FLOP * multiply-adds * images / speed

with the images of one device, and a backward pass of two multiply-adds, four FLOP, for each one forward.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence

from flaxnets.errors import UserError
from train import cli, models
from train.arguments import Parser

EXAMPLES = """
  python -m train.scaling
  python -m train.scaling --devices 64 --teraflops 300
"""
GRADIENT_BYTES = 4
# Bytes a second that a device sends, as the manufacturers state them.
INTERCONNECTS = {'NVLink 4': 450e9, 'PCIe 4 x16': 32e9, '100 Gb Ethernet': 12.5e9}
# FLOP a second: a fifth of what an H100's or H200's tensor cores reach in TF32, the default for float32.
SPEED = 100e12
# Seconds from the first message to the last when almost nothing is sent.
LATENCY = 20e-6


@dataclasses.dataclass(frozen=True)
class Row:
    """A model's step on several devices. `sent`: bytes that each sends; `hidden`: for each interconnect
    the global batch size from which communication costs no time."""

    name: str
    parameters: int
    multiply_adds: int
    sent: float
    hidden: dict[str, int]


def row(name: str, devices: int, speed: float, latency: float = LATENCY) -> Row:
    """The step of a model at its defaults."""
    parameters, _, counted, _ = models.sizes(name, {})
    sent = 2 * (devices - 1) / devices * GRADIENT_BYTES * parameters
    hidden = {
        link: devices * math.ceil((latency + sent / bandwidth) * speed / (4 * counted.multiply_adds))
        for link, bandwidth in INTERCONNECTS.items()
    }
    return Row(name, parameters, counted.multiply_adds, sent, hidden)


def table(devices: int = 8, speed: float = SPEED) -> str:
    """All models, as Markdown."""
    from flaxnets import registry

    titles = ['model', 'parameters', 'multiply-adds', 'sent a step', *INTERCONNECTS]
    lines = [' | '.join(titles), '---|' + '---:|' * (len(titles) - 1)]
    for name in registry.list_models():
        one = row(name, devices, speed)
        cells = [f'{one.parameters:,}', f'{one.multiply_adds:,}', f'{one.sent / 1e6:,.2f} MB']
        cells += [f'{images:,}' for images in one.hidden.values()]
        lines.append(' | '.join([f'`{name}`', *cells]))
    return '\n'.join('| ' + line.removesuffix('|') + ' |' for line in lines)


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = Parser('train.scaling', 'Data parallelism on paper.', EXAMPLES)
    parser.add_argument('--devices', type=int, default=8, help='how many share a batch (default: 8)')
    parser.add_argument('--teraflops', type=float, default=SPEED / 1e12, help='what one sustains')
    args = parser.parse_args(argv[1:])
    if args.devices < 2 or args.teraflops <= 0:
        raise UserError(
            'command line: expected --devices of at least 2 and --teraflops above 0, '
            f'got {args.devices} and {args.teraflops:g}'
        )
    print(table(args.devices, args.teraflops * 1e12))


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
