"""Full disks and folders that cannot be written, in a process of their own: a line each, and nothing lost."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import runs

import train
from train.checkpointing import manifest
from train.checkpointing.checkpoints import committed

# Several runs one after the other, as the command line starts them. Files may not grow beyond so many bytes:
# a disk that fills, without the rights to make one.
SEVERAL = """
import json, resource, sys
from train import cli
from train.runtime import signals
limit, starts = json.loads(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
codes = [cli.main(['train', *arguments]) for arguments in starts]
print(*codes)
signals.leave(0)
"""


def start(starts, limit=0, **environment):
    """(exit codes, lines on stderr) of these runs in one process."""
    done = subprocess.run(
        [sys.executable, '-c', SEVERAL, json.dumps([limit, starts])],
        check=True,
        cwd=runs.ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert 'Traceback' not in done.stdout
    return [int(code) for code in done.stdout.splitlines()[-1].split()], done.stderr.splitlines()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run of one epoch, and a folder for compiled programs that are wanted again."""
    folder = tmp_path_factory.mktemp('whole')
    config = runs.digits(folder, epochs=1, checkpoint__keep=99, log__tensorboard=True)
    train.run(config, folder / 'run')
    return folder


def copies(whole, to, count):
    for i in range(count):
        shutil.copytree(whole / 'run', to / str(i))
    return [to / str(i) for i in range(count)]


def longer(folder):
    return ['--continue', str(folder), '--config.epochs=60']


def failures(starts, place, limit=0):
    """The one line that each of these runs fails with, whose paths are all in `place`."""
    codes, errors = start(starts, limit)
    assert codes == [2] * len(starts)
    assert len(errors) == len(starts), errors
    for line in errors:
        assert line.startswith('error: ')
        for path in (word.rstrip(':') for word in line.split() if word.startswith('/')):
            assert pathlib.Path(path).is_relative_to(place), path
    return errors


def is_whole(folder):
    steps = committed(folder / 'checkpoints')
    return steps and not any(manifest.damage(folder / 'checkpoints' / str(step)) for step in steps)


def test_files_that_may_not_grow_are_one_line_in_all_of_several_runs(whole, tmp_path):
    folders = copies(whole, tmp_path, 4)
    errors = failures([longer(folder) for folder in folders], tmp_path, limit=4000)
    for folder, line in zip(folders, errors, strict=True):
        assert 'a file may not grow that large here' in line
        assert f'The last good checkpoint is step 4 in {folder}' in line
        assert is_whole(folder)


def test_a_full_disk_is_one_line_in_all_of_several_runs(whole, small_disk):
    (folder,) = copies(whole, small_disk, 1)
    for line in failures([longer(folder)] * 4, small_disk):
        assert 'the disk is full: free some space, or lower --config.checkpoint.keep' in line
        assert f'in {folder}; the same command continues from it' in line
    assert is_whole(folder)


def test_a_compilation_cache_that_cannot_be_written_is_one_warning(whole, tmp_path):
    (folder,) = copies(whole, tmp_path, 1)
    (tmp_path / 'file').touch()
    place = tmp_path / 'file' / 'xla'
    codes, errors = start(
        [['--continue', str(folder), '--config.epochs=2']], JAX_COMPILATION_CACHE_DIR=str(place)
    )
    assert codes == [0]
    (line,) = errors
    assert line.startswith(f'warning: compiled programs cannot be kept in {place} (Not a directory)')
