"""SHA-256 sums of a checkpoint's files. orbax restores a flipped bit without a word; this finds it."""

import hashlib
import json
import pathlib
import re

NAME = 'manifest.json'
# Both are stamped by orbax in the moment of the commit, after the manifest: the first gets the time, which
# the sum leaves out; the second holds a sentence that nobody reads.
STAMPED = '_CHECKPOINT_METADATA'
IGNORED = 'commit_success.txt'


def write(folder: pathlib.Path) -> None:
    """Writes the sums of all files under `folder` into `folder/manifest.json`."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    (folder / NAME).write_text(_text(folder, [name for name in names if name not in (IGNORED, NAME)]))


def damage(folder: pathlib.Path) -> str:
    """The first file that is missing or not what was written, and how; empty if all are whole.

    Raises:
        OSError: a file cannot be read at all, which says nothing about what it holds.
    """
    file = folder / NAME
    try:
        written = file.read_bytes()
        sums = json.loads(written)
        names = list(sums)
    except FileNotFoundError:
        return f'{file} is missing'
    except (ValueError, TypeError):
        return f'{file} is altered'
    for name in names:
        path = folder / name
        if folder not in path.parents or '..' in path.parts:
            return f'{file} is altered'
        if not path.is_file():
            return f'{path} is missing'
        if _sum(path) != sums[name]:
            return f'{path} is truncated or altered'
    # The sums agree, so only the manifest's own text can still differ.
    return '' if written.decode() == _text(folder, names) else f'{file} is altered'


def _text(folder: pathlib.Path, names: list[str]) -> str:
    return json.dumps({name: _sum(folder / name) for name in names}, indent=1)


def _sum(path: pathlib.Path) -> str:
    if path.name == STAMPED:
        content = re.sub(rb'("commit_timestamp_nsecs": )(\d+|null)', rb'\1', path.read_bytes())
        return hashlib.sha256(content).hexdigest()
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
