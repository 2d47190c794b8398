"""From the flags of `python -m train` to a checked config; from a wrong one to the line that says so."""

import argparse
import logging
import pathlib
import re
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flaxnets.errors import UserError
from train.runtime.causes import causes

if TYPE_CHECKING:
    from ml_collections import ConfigDict

PROCESS_FLAGS = {'coordinator': None, 'processes': None, 'process_id': None, 'process_timeout': 100}


def of_processes(argv: Sequence[str]) -> tuple[list[str], argparse.Namespace]:
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


def parse(argv: Sequence[str]) -> 'tuple[ConfigDict, pathlib.Path]':
    """The checked config and the workdir that the flags name."""
    from absl import flags
    from ml_collections import config_flags

    from train import config as options
    from train.workdir import default_workdir

    argv = [re.sub(r'^-(?=config|workdir|continue)', '--', arg) for arg in argv]
    argv = _last_of_each(_config_first(argv))
    parser = flags.FlagValues()
    argv, again = _continued(argv)
    if again is None:
        flag = config_flags.DEFINE_config_file(
            'config',
            None,
            'config file',
            parser,
            lock_config=False,
            accept_new_attributes=True,
            sys_argv=argv,
        )
    else:
        stored = _config_of(again, argv)
        flag = config_flags.DEFINE_config_dict(
            'config', stored, 'config', parser, lock_config=False, accept_new_attributes=True, sys_argv=argv
        )
    workdir = flags.DEFINE_string('workdir', None, 'output folder', parser)
    logging.getLogger('absl').setLevel(logging.CRITICAL)  # it reports what we explain
    try:
        rest = parser(argv)
    except Exception as error:
        if again is None and re.search("NoneType|no attribute 'get_config'", str(error)):
            raise _no_config(_config_file(argv)[0]) from error
        raise UserError(_explained(error, argv)) from error
    if rest[1:]:
        raise UserError(
            f'command line: {rest[1]!r} is not expected; write --config FILE before a config file, and '
            'options as --config.KEY=VALUE. See --help'
        )
    if workdir.value == '':
        raise UserError('--workdir: expected a folder, got an empty name')
    if again is not None:
        if workdir.value is not None:
            raise UserError('--continue: expected no --workdir with it; it names the workdir itself')
        return options.validate(flag.value), again
    path, argument = _config_file(argv)
    if flag.value is None:
        raise _no_config(path)
    try:
        config = options.validate(flag.value)
    except UserError as error:
        raise UserError(_located(str(error), path, argv)) from error
    if workdir.value is not None:
        return config, pathlib.Path(workdir.value)
    return config, default_workdir(config, path.stem, argument)


def _continued(argv: list[str]) -> tuple[list[str], pathlib.Path | None]:
    """The other flags, and the folder that `--continue` names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument('--continue', dest='folder')
    try:
        found, rest = parser.parse_known_args(argv[1:])
    except argparse.ArgumentError as error:
        raise UserError(f'--continue: expected the workdir of a run: {error.message}') from error
    if found.folder is None:
        return argv, None
    if any(arg.partition('=')[0] == '--config' for arg in rest):
        raise UserError(
            '--continue: expected no --config with it, only --config.KEY=VALUE; the run has its own config'
        )
    return [argv[0], *rest], pathlib.Path(found.folder).expanduser()


def _config_of(workdir: pathlib.Path, argv: Sequence[str]) -> 'ConfigDict':
    """The config of the run in `workdir`; if its model is the user's own code, a flag must name it too."""
    from flaxnets import registry
    from train.checkpointing.checkpoints import read_config

    for arg in argv:
        if arg.startswith('--config.model.name='):
            registry.entry(arg.partition('=')[2])
    config = read_config(workdir)
    if config is None:
        raise UserError(
            f'--continue: expected the folder of a run, but {workdir} does not exist or is not one'
        )
    return config


def _config_file(argv: Sequence[str]) -> tuple[pathlib.Path, str]:
    """The config file that the flags name first, and its argument."""
    from flaxnets import registry

    first = [*argv, '', ''][1:3]
    name, _, argument = (first[0].removeprefix('--config=') if '=' in first[0] else first[1]).partition(':')
    if not first[0].startswith('--config') or not name:
        again = '; to continue a run with its own config, --continue DIR instead of --workdir'
        raise UserError(
            '--config: expected a config file, such as --config configs/branching_attn.py:digits'
            + (again if any(arg.partition('=')[0] == '--workdir' for arg in argv) else '')
        )
    if not pathlib.Path(name).is_file():
        known = sorted(str(p) for p in pathlib.Path('configs').glob('*.py'))
        near = registry.near(name, known) if known else 'Run it in the checkout, which has configs/.'
        raise UserError(f'--config: there is no file {name}. {near}')
    return pathlib.Path(name), argument


def _no_config(path: pathlib.Path) -> UserError:
    """The error for a config file without get_config, or with one that returns nothing."""
    line = _line_of(path, r'def get_config')
    where = path if line is None else f'{path}:{line}'
    return UserError(
        f'{where}: expected a function get_config that returns a config, such as train.config.defaults() '
        f'with changes; got {"none" if line is None else "one that returns None"}'
    )


def _line_of(path: pathlib.Path, pattern: str) -> int | None:
    """The number of the last line in which the pattern is found."""
    lines = path.read_text(errors='replace').splitlines()
    return max((n for n, line in enumerate(lines, 1) if re.search(pattern, line)), default=None)


def _located(message: str, path: pathlib.Path, argv: Sequence[str]) -> str:
    """The message with the line of the config file that sets its key, unless the command line does."""
    found = re.match(r'config\.([\w.]+):', message)
    if found is None or any(arg.partition('=')[0] == f'--config.{found[1]}' for arg in argv):
        return message
    name = re.escape(found[1].rpartition('.')[2])
    line = _line_of(path, rf'\b{name}\b[\'"]?\]?\s*[=:](?!=)')
    return message if line is None else f'{path}:{line}: {message}'


def _config_first(argv: list[str]) -> list[str]:
    """The flags with `--config FILE` in front: ml_collections wants it before the settings that change it."""
    for i, arg in enumerate(argv):
        if arg == '--config' and i + 1 < len(argv):
            return [argv[0], arg, argv[i + 1], *argv[1:i], *argv[i + 2 :]]
        if arg.startswith('--config='):
            return [argv[0], arg, *argv[1:i], *argv[i + 1 :]]
    return argv


def _last_of_each(argv: list[str]) -> list[str]:
    """The flags without each --config.KEY=VALUE that a later one replaces: of tuples ml_collections would
    make a longer one."""
    last = {arg.partition('=')[0]: i for i, arg in enumerate(argv)}
    return [
        arg
        for i, arg in enumerate(argv)
        if not re.match(r'--config\..*=', arg) or last[arg.partition('=')[0]] == i
    ]


def _explained(error: BaseException, argv: Sequence[str]) -> str:
    """One line for whatever absl, ml_collections or the config file itself raised."""
    from absl import flags

    from flaxnets import registry
    from train import config as options

    *_, root = chain = list(causes(error))
    for cause in chain:
        if isinstance(cause, UserError) and 'Traceback' not in str(cause):
            return str(cause)
    if isinstance(error, flags.UnrecognizedFlagError):
        name = error.flagname
        settings = [f'--config.{key}' for key in options.OPTIONS if key.rpartition('.')[2] == name]
        known = ['config', 'workdir', 'continue', 'help', 'options', *PROCESS_FLAGS]
        near = f'Did you mean {" or ".join(settings)}?' if settings else registry.near(name, known)
        return f'--{name}: there is no such option. {near} Settings are --config.KEY=VALUE'
    if missing := re.match(r'Missing value for flag (--[\w.]+)', str(error)):
        return f'{missing[1]}: expected a value, got none; write {missing[1]}=VALUE. See --help'
    if isinstance(root, TypeError) and 'get_config()' in str(root):
        path, argument = _config_file(argv)
        return (
            f'{path}:{_line_of(path, "def get_config")}: expected get_config(argument), which gets what '
            f'follows the colon, {argument!r}: {root}'
        )
    override = re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL)
    if override:
        key, value = override.groups()
        return f'config.{key}: expected {options.expected(key)}, got {value!r}'
    frames = [f for f in traceback.extract_tb(root.__traceback__) if f.filename in ' '.join(argv)]
    if frames:
        return f'{frames[-1].filename}:{frames[-1].lineno}: {type(root).__name__}: {root}'
    # ml_collections does not name the option where a path does not exist.
    for key in re.findall(r'--config\.([\w.]+)', ' '.join(argv)):
        if key not in options.OPTIONS and key.rpartition('.')[0] != 'model':
            return f'config.{key}: there is no such option. {registry.near(key, options.OPTIONS)}'
    return str(error) or type(error).__name__
