"""The command line of `python -m train`, and what all commands do: a user's mistake becomes one line."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence

from flaxnets.errors import UserError
from train import config_flags
from train.runtime import allocator, imports, signals, streams, unraisable

USAGE = """Train an image classifier; run the same command again to resume.

  python -m train --config FILE[:VARIATION] [--workdir DIR] [--config.KEY=VALUE ...]

  --config    a file of configs/, with a variation such as :digits or :digits,layers=4
  --workdir   folder for the results (default: runs/<config>-<variation>-<hash>)
  --continue  the workdir of a run, to continue it with its own config
  --options   list every --config.KEY with its default and meaning

  --coordinator HOST:PORT --processes N --process_id I   one of N processes that train together; SLURM's
             and Open MPI's tasks need none of them. --processes 0: JAX finds out itself (TPU pods)
  --process_timeout SECONDS   until a process that does not answer counts as dead (default: 100)

  python -m train --config configs/branching_attn.py:digits
  python -m train --config configs/branching_attn.py --config.epochs=5 --config.data.data_dir=~/data
  python -m train --continue runs/mine --config.epochs=20

Then: python -m train.evaluate --workdir DIR; python -m train.runs lists all runs
"""


def main(argv: Sequence[str]) -> int:
    """Runs `python -m train`; returns its exit code."""
    streams.keep()
    if {'-h', '--help', '-help'} & set(argv):
        print(USAGE, end='')
        return 0
    from train import config as options  # not before --help: JAX takes a second to import

    if '--options' in argv:
        for key, option in options.OPTIONS.items():
            print(f'--config.{key}={option.default!r}\n    {option.expected()}: {option.meaning}')
        return 0
    from train.distributed import processes

    return processes.run_and_leave(lambda: guarded(train, argv))


def train(argv: Sequence[str]) -> None:
    """Parses the flags and trains."""
    with imports.uncollected():
        from train import config as options
        from train.distributed import processes

        argv, flags = config_flags.of_processes(argv)
        config, workdir = config_flags.parse(argv)
        if config.deterministic:
            before = os.environ.get('XLA_FLAGS', '')
            os.environ['XLA_FLAGS'] = f'{before} {options.DETERMINISTIC_FLAG}=true'
        from train import loop  # after the flags: JAX takes a second to import

    request = processes.requested(flags.coordinator, flags.processes, flags.process_id)
    if request is not None:
        processes.start(request, flags.process_timeout)
    with signals.signals(own_process=True) as stop:
        loop.run(config, workdir, stop=stop)


def guarded(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Runs a command; a user's mistake becomes one line on stderr and exit code 2, a warning one line.

    A signal ends it with 128 plus its number, as in shells: 143 for SIGTERM, 130 for Ctrl-C.
    """
    streams.keep()
    unraisable.hide_late_writes()
    allocator.keep_memory()
    with warnings.catch_warnings(), signals.interruptions():
        warnings.showwarning = _show_warning
        try:
            command(argv)
        except UserError as error:
            print(f'error: {_line(error)}', file=sys.stderr)
            return 2
        except OSError as error:
            where = f'{error.filename}: ' if error.filename else ''
            print(f'error: {where}{_line(error.strerror or error)}', file=sys.stderr)
            return 2
        except signals.Stopped as stopped:
            print(f'stopped by {stopped}\nTo continue: {signals.command()}', file=sys.stderr)
            return 128 + stopped.signum
        except KeyboardInterrupt:
            signals.end_process(signal.SIGINT, signals.AT_ONCE)
    return 0


def _line(message: object) -> str:
    return ' '.join(str(message).split())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f'warning: {_line(message)}', file=sys.stderr)
