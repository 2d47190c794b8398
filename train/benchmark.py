"""Measures training, or with --data how images arrive: `python -m train.benchmark --config FILE [--help]`.

Both sides of a comparison run in one process on the same cores, in turns, and the ratio is that of the
medians: so a busy machine slows both sides equally.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from train import cli
from train.arguments import Parser
from train.config_flags import parse

EXAMPLES = """
  python -m train.benchmark --config configs/branching_attn.py --against torch
  python -m train.benchmark --config configs/vit.py --config configs/mnist.py:exercise=4 --json numbers.json
  python -m train.benchmark --config configs/convnn.py:model=cnn --config.precision=bfloat16
  python -m train.benchmark --from numbers.json --into docs/speed.md
  python -m train.benchmark --data --name cifar10

--config.KEY=VALUE changes all configs. Images are random, in the shape of the config's data.
"""


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and measures."""
    args, rest = parser().parse_known_args(argv[1:])
    for name in ('images', 'batch_size', 'workers', 'rounds'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name}: expected at least 1, got {getattr(args, name)}')
    if args.source:
        results = read(args.source)
    elif args.config:
        results = training(args, rest)
    elif rest:
        raise UserError(f'command line: {rest[0]!r} is not expected. See --help')
    elif args.data:
        results = data(args)
    else:
        raise UserError('benchmark: expected something to measure: --config FILE or --data')
    if results:
        write(args.json, results)
    if args.into:
        from train.benchmarks import training_tables

        page = pathlib.Path(args.into)
        page.write_text(training_tables.into(page.read_text(), results))
        print(page)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = Parser('train.benchmark', 'Measure training on this machine, or how fast images arrive.', EXAMPLES)
    add = made.add_argument
    add(
        '--config',
        action='append',
        metavar='FILE[:VARIATION]',
        help='a config to train; may be given several times',
    )
    add('--against', choices=['torch', 'eager'], help='the same in PyTorch; eager: without torch.compile')
    add('--variants', action='store_true', help='also loop and scan, neighbours by top_k, 8 replicas')
    add('--minutes', type=float, default=math.inf, help='start no further config after this many minutes')
    add('--seconds', type=float, default=0.5, help='time of each side in a round (default 0.5)')
    add('--rounds', type=int, default=5, help='how often to measure (default 5)')
    add('--json', metavar='FILE', help='write the numbers there too')
    add(
        '--from', dest='source', metavar='FILE', help='measure nothing: take the numbers of an earlier --json'
    )
    add(
        '--into', metavar='PAGE.md', help='write the tables between the marks <!-- benchmark cpu (or gpu) -->'
    )
    add('--data', action='store_true', help='sources, placements, memory, compared with PyTorch')
    add('--preview', metavar='FILE.png', help='with --data: only draw what augmentation does')
    add('--name', default='cifar10', help='with --data: the data set (default cifar10)')
    add('--data_dir', default='', help='with --data: where it is')
    add('--cache_dir', default='', help='with --data: where decoded images are stored')
    add('--images', type=int, default=10000, help='with --data: how many images to use (default 10000)')
    add('--batch_size', type=int, default=128, help='with --data')
    add('--workers', type=int, default=2, help='with --data: threads or processes of each reader')
    return made


def training(args: argparse.Namespace, changes: list[str]) -> dict[str, Any]:
    """Speed of each config, with `changes` to all of them."""
    if args.against:
        if importlib.util.find_spec('torch') is None:
            raise UserError("--against: expected PyTorch; install it with pip install 'flaxnets[torch]'")
        os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # a GPU's memory is for both
    configs = {
        file.removeprefix('configs/').replace('.py', '', 1): parse(['', '--config', file, *changes])[0]
        for file in args.config
    }
    from train.benchmarks import timing, training_tables
    from train.benchmarks import training as measured

    eager = [measured.EAGER, measured.PUBLISHED]
    ways = {'torch': [*eager, measured.COMPILED], 'eager': eager}
    before = timing.hardware()
    results: dict[str, Any] = {
        'hardware': before,
        'platform': timing.platform_name(),
        'torch': timing.torch_version() if args.against else None,
        'rounds': args.rounds,
        'changes': changes,
        'training': [],
    }
    against = ways.get(args.against, []) + (measured.VARIANTS if args.variants else [])
    for row in measured.measure(
        configs, against=against, rounds=args.rounds, seconds=args.seconds, minutes=args.minutes
    ):
        results['training'].append(row)
        print(f'{row["config"]}: {1000 * measured.median(row, measured.OURS):.1f} ms a step')
        write(args.json, results)  # after each, so that the results stay if the next one fails
    training_tables.show(results)
    return results


def read(path: str) -> dict[str, Any]:
    """The numbers that `--json` wrote."""
    from train.workdir import read_json  # not before --help: JAX takes a second to import

    results = read_json(pathlib.Path(path))
    if 'platform' not in results or 'training' not in results:
        raise UserError(f'--from: expected what train.benchmark --config FILE --json FILE wrote, got {path}')
    return results


def write(path: str | None, results: dict[str, Any]) -> None:
    """Writes the numbers."""
    if path:
        pathlib.Path(path).write_text(json.dumps(results, indent=2) + '\n')


def data(args: argparse.Namespace) -> dict[str, Any]:
    """How images arrive; nothing with --preview."""
    from train.benchmarks import data, tables, timing

    if args.preview:
        data.draw(args)
        print(f'{args.preview}: {args.name} as stored and augmented')
        return {}
    before = timing.hardware()
    results = {'hardware': before, 'arguments': vars(args), 'data': data.measure(args)}
    tables.show(results)
    return results


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
