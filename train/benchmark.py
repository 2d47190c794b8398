"""Measures this machine: `python -m train.benchmark --data [--preview FILE.png] [--json FILE]`.

What is compared runs in one process on the same cores, in turns, and medians are divided, so that a busy
machine slows both sides alike.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from flaxnets.errors import UserError
from train import cli
from train.distributed.devices import Devices


def alternate(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """{name: seconds of each round}, the functions called in turns after one call that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rate(count: int, seconds: Sequence[float]) -> float:
    """`count` a second, in the median round."""
    return count / statistics.median(seconds)


def hardware() -> dict[str, Any]:
    """What the numbers were measured on, and how busy it was."""
    from train.checkpointing.checkpoints import versions
    from train.distributed import memory

    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
        processor = next(line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        'processor': processor,
        'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        'available_memory': memory.available(),
        'device': Devices.create('single').describe(),
        'load_average': os.getloadavg()[0],
        'versions': versions(),
    }


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
    from train.benchmarks import data as benchmark_data
    from train.benchmarks import tables as benchmark_tables

    if args.preview:
        benchmark_data.draw(args)
        print(f'{args.preview}: {args.name} as stored and augmented')
        return
    before = hardware()
    results = {'hardware': before, 'arguments': vars(args), 'data': benchmark_data.measure(args)}
    benchmark_tables.show(results)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
