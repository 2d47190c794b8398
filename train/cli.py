"""From the command line to a checked config, and from a user's mistake to one line."""

import argparse
import os
import pathlib
import re
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import config_flags

from flaxnets import registry
from flaxnets.errors import UserError
from train import config as options
from train.distributed import processes
from train.runtime import allocator, signals
from train.runtime.causes import causes

USAGE = """Train an image classifier; run the same command again to resume.

  python -m train --config FILE[:VARIATION] [--workdir DIR] [--config.KEY=VALUE ...]

  --config   a file of configs/, with a variation such as :digits or :digits,layers=4
  --workdir  where everything goes (default: runs/<config>-<variation>-<hash>)
  --options  list every --config.KEY with its default and meaning

  --coordinator HOST:PORT --processes N --process_id I   one of N processes that train together; SLURM's
             and Open MPI's tasks need none of them. --processes 0: JAX finds out itself (TPU pods)
  --process_timeout SECONDS   after which a silent process counts as dead (default: 100)

  python -m train --config configs/branching_attn.py:digits
  python -m train --config configs/branching_attn.py --config.epochs=5 --config.data.data_dir=~/data

Then: python -m train.evaluate --workdir DIR
"""


def main(argv: Sequence[str]) -> int:
    """Runs `python -m train`; returns its exit code."""
    if {'-h', '--help', '-help'} & set(argv):
        print(USAGE, end='')
        return 0
    if '--options' in argv:
        for key, option in options.OPTIONS.items():
            print(f'--config.{key}={option.default!r}\n    {option.expected()}: {option.meaning}')
        return 0
    return processes.parted(lambda: guarded(train, argv))


def train(argv: Sequence[str]) -> None:
    """Parses the flags and trains."""
    argv, flags = process_flags(argv)
    config, workdir = parse(argv)
    if config.deterministic:
        before = os.environ.get('XLA_FLAGS', '')
        os.environ['XLA_FLAGS'] = f'{before} {options.DETERMINISTIC_FLAG}=true'
    from train import loop  # after the flags: JAX takes a second to import

    request = processes.requested(flags.coordinator, flags.processes, flags.process_id)
    if request is not None:
        processes.start(request, flags.process_timeout)
    with signals.signals(own_process=True) as stop:
        loop.run(config, workdir, stop=stop)


PROCESS_FLAGS = {'coordinator': None, 'processes': None, 'process_id': None, 'process_timeout': 100}


def process_flags(argv: Sequence[str]) -> tuple[list[str], argparse.Namespace]:
    """The other flags, and those that say which process of several this is."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, default in PROCESS_FLAGS.items():
        parser.add_argument(f'--{name}', default=default, type=str if name == 'coordinator' else int)
    try:
        found, rest = parser.parse_known_args(argv[1:])
    except argparse.ArgumentError as error:
        raise UserError(f'{error.argument_name}: {error.message}') from error
    if found.process_timeout < 1:
        raise UserError(f'--process_timeout: expected at least 1 second, got {found.process_timeout}')
    return [argv[0], *rest], found


def guarded(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Runs a command; a user's mistake becomes one line on stderr and exit code 2, a warning one line.

    A signal ends it with 128 and its number, as shells count: 143 for SIGTERM, 130 for Ctrl-C.
    """
    allocator.keep_memory()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f'warning: {_line(message)}', file=sys.stderr)
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
            again = shlex.join(['python', '-m', _module(), *argv[1:]])
            print(f'stopped by {stopped}\nTo continue: {again}', file=sys.stderr)
            return 128 + stopped.signum
        except KeyboardInterrupt:
            signals.end_process(signal.SIGINT, 'stopped at once')
    return 0


def _line(message: object) -> str:
    return ' '.join(str(message).split())


def _module() -> str:
    """The name under which `python -m` started this program."""
    spec = getattr(sys.modules['__main__'], '__spec__', None)
    return spec.name.removesuffix('.__main__') if spec else 'train'


def parse(argv: Sequence[str]) -> tuple[options.ConfigDict, pathlib.Path]:
    """The checked config and the workdir that the flags name."""
    argv = _config_first([re.sub(r'^-(?=config|workdir)', '--', arg) for arg in argv])
    parser = flags.FlagValues()
    flag = config_flags.DEFINE_config_file(
        'config', None, 'config file', parser, lock_config=False, accept_new_attributes=True, sys_argv=argv
    )
    workdir = flags.DEFINE_string('workdir', None, 'output folder', parser)
    try:
        rest = parser(argv)
    except Exception as error:
        raise UserError(_explained(error, argv)) from error
    if rest[1:]:
        raise UserError(
            f'command line: {rest[1]!r} is not expected; options are --config.KEY=VALUE. See --help'
        )
    if flag.value is None:
        raise UserError('--config: expected a config file, such as --config configs/branching_attn.py:digits')
    path, _, argument = parser['config'].config_filename.partition(':')
    if not pathlib.Path(path).is_file():
        known = sorted(str(p) for p in pathlib.Path('configs').glob('*.py'))
        near = registry.near(path, known) if known else 'Run from the checkout, where configs/ lies.'
        raise UserError(f'--config: there is no file {path}. {near}')
    config = options.validate(flag.value)
    if workdir.value is not None:
        return config, pathlib.Path(workdir.value)
    return config, options.default_workdir(config, pathlib.Path(path).stem, argument)


def _config_first(argv: list[str]) -> list[str]:
    """The flags with `--config FILE` in front: ml_collections wants it before the settings that change it."""
    for i, arg in enumerate(argv):
        if arg == '--config' and i + 1 < len(argv):
            return [argv[0], arg, argv[i + 1], *argv[1:i], *argv[i + 2 :]]
        if arg.startswith('--config='):
            return [argv[0], arg, *argv[1:i], *argv[i + 1 :]]
    return argv


def _explained(error: BaseException, argv: Sequence[str]) -> str:
    """One line for whatever absl, ml_collections or the config file itself raised."""
    *_, root = chain = list(causes(error))
    for cause in chain:
        if isinstance(cause, UserError) and 'Traceback' not in str(cause):
            return str(cause)
    if isinstance(error, flags.UnrecognizedFlagError):
        near = registry.near(error.flagname, ['config', 'workdir', 'help', 'options', *PROCESS_FLAGS])
        return f'--{error.flagname}: there is no such option. {near} Settings are --config.KEY=VALUE'
    override = re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL)
    if override:
        key, value = override.groups()
        return f'config.{key}: expected {options.expected(key)}, got {value!r}'
    frames = [f for f in traceback.extract_tb(root.__traceback__) if f.filename in ' '.join(argv)]
    if frames:
        return f'{frames[-1].filename}:{frames[-1].lineno}: {type(root).__name__}: {root}'
    # ml_collections stumbles over a path that leads nowhere, without naming it.
    for key in re.findall(r'--config\.([\w.]+)', ' '.join(argv)):
        if key not in options.OPTIONS and key.rpartition('.')[0] != 'model':
            return f'config.{key}: there is no such option. {registry.near(key, options.OPTIONS)}'
    return str(error) or type(error).__name__
