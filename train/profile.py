"""Where a training step's time and memory go: `python -m train.profile --config FILE [--compare]`."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from flaxnets.errors import UserError
from train import cli
from train.arguments import Parser
from train.config_flags import parse

EXAMPLES = """
  python -m train.profile --config configs/profiled_cnn.py
  python -m train.profile --config configs/branching_attn.py --trace trace    # tensorboard --logdir trace
  python -m train.profile --config configs/profiled_cnn.py --config configs/profiled_cnn.py:pruned --compare

Every module is run alone, on inputs of the shapes that it sees in a training step. `own` is what a module
takes without those inside it. --config.KEY=VALUE changes all configs. Images are random.
"""


def main(argv: Sequence[str]) -> None:
    """Parses the flags and profiles."""
    args, changes = parser().parse_known_args(argv[1:])
    if not args.config:
        raise UserError('profile: expected --config FILE')
    if args.compare and len(args.config) != 2:
        raise UserError(f'--compare: expected --config twice, got {len(args.config)}')
    configs = {
        file.removeprefix('configs/').replace('.py', '', 1): parse(['', '--config', file, *changes])
        for file in args.config
    }
    from train.benchmarks import profile, profile_tables, timing

    results = []
    for i, (name, (config, workdir)) in enumerate(configs.items()):
        folder = pathlib.Path(args.trace) / (str(i) if i else '') if args.trace else None
        results.append({'config': name, **profile.measure(config, folder), **profile.accuracy(workdir)})
        profile_tables.show(results[-1])
    if args.compare:
        profile_tables.compare(*results)
    if args.json:
        numbers = {'hardware': timing.hardware(), 'profiles': results}
        pathlib.Path(args.json).write_text(json.dumps(numbers, indent=2) + '\n')


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = Parser('train.profile', "Where a training step's time and memory go.", EXAMPLES)
    add = made.add_argument
    add('--config', action='append', metavar='FILE[:VARIATION]', help='a config; may be given several times')
    add(
        '--compare',
        action='store_true',
        help='two configs: what the second one saves, and what accuracy it loses',
    )
    add('--trace', metavar='DIR', help='keep the trace there, for TensorBoard or Perfetto')
    add('--json', metavar='FILE', help='write the numbers there too')
    return made


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
