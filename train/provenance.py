"""Where a result comes from: the command, and the commit of the code."""

import functools
import pathlib
import shlex
import subprocess
import sys

import flaxnets


def program() -> str:
    """The command of ours that runs, such as `train` or `train.convert`; empty where it is no command of
    ours."""
    spec = getattr(sys.modules['__main__'], '__spec__', None)
    name = spec.name.removesuffix('.__main__') if spec else ''
    return name if name.split('.')[0] == 'train' else ''


def command() -> str:
    """The command that started this program, or the call where it was no command of ours."""
    if not (name := program()):
        return 'train.run(config, workdir), with config.json of the workdir'
    return shlex.join(['python', '-m', name, *sys.argv[1:]])


def commit() -> str:
    """The commit of the code that runs, `-changed` after it where files differ from it; 'unknown' outside a
    checkout."""
    root = pathlib.Path(flaxnets.__file__).parent
    run = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, check=True)
    try:
        run(['git', 'ls-files', '--error-unmatch', '__init__.py'])  # fails in another project's repository
        head = run(['git', 'rev-parse', 'HEAD']).stdout.strip()
        changed = run(['git', 'status', '--porcelain', '--', '.', '../train', '../configs']).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return head + ('-changed' if changed else '')
