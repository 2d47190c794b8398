"""Measures this machine: `python -m train.benchmark --data [--preview FILE.png] [--json FILE]`.

Both sides of a comparison run in one process on the same cores, in turns, and the ratio is one of medians: so
a busy machine slows both alike.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from flaxnets.errors import UserError
from train import cli


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and measures."""
    parser = argparse.ArgumentParser('python -m train.benchmark', description='Measure this machine.')
    parser.add_argument('--data', action='store_true', help='sources, placements, memory, beside PyTorch')
    parser.add_argument('--preview', metavar='FILE.png', help='with --data: only draw what augmentation does')
    parser.add_argument('--json', metavar='FILE', help='write the numbers there too')
    parser.add_argument('--name', default='cifar10', help='the data set (default cifar10)')
    parser.add_argument('--data_dir', default='', help='where it is')
    parser.add_argument('--cache_dir', default='', help='where it is decoded to')
    parser.add_argument('--images', type=int, default=10000, help='how many of it to measure with')
    parser.add_argument('--batch_size', type=int, default=128)
    parser.add_argument('--workers', type=int, default=2, help='of each reader')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args(argv[1:])
    if not args.data:
        raise UserError('benchmark: expected something to measure: --data')
    for name in ('images', 'batch_size', 'workers', 'rounds'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name}: expected at least 1, got {getattr(args, name)}')
    from train.benchmarks import data, tables, timing

    if args.preview:
        data.draw(args)
        print(f'{args.preview}: {args.name} as stored and augmented')
        return
    before = timing.hardware()
    results = {'hardware': before, 'arguments': vars(args), 'data': data.measure(args)}
    tables.show(results)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
