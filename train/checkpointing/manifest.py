"""SHA-256 sums of a checkpoint's files. orbax restores a flipped bit without an error; the sums find it."""

import hashlib
import json
import pathlib
import re

NAME = 'manifest.json'
# orbax writes to both at the commit, after the manifest. The first gets the time, which its sum leaves out;
# the second contains a sentence that nothing reads, and has no sum.
STAMPED = '_CHECKPOINT_METADATA'
IGNORED = 'commit_success.txt'


def write(folder: pathlib.Path) -> None:
    """Writes the sums of all files under `folder`, and their own, into `folder/manifest.json`."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    sums = {name: _sum(folder / name) for name in names if name not in (IGNORED, NAME)}
    (folder / NAME).write_text(_text(sums))


def damage(folder: pathlib.Path) -> str:
    """The first file that is missing or not what was written, and how; empty if all are whole.

    Raises:
        OSError: a file cannot be read, which does not mean that its content is wrong.
    """
    file = folder / NAME
    try:
        written = file.read_bytes()
        sums = json.loads(written)['files']
        intact = _text(sums).encode() == written
    except FileNotFoundError:
        return f'{file} is missing'
    except (ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        return f'{file} is truncated or altered'
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            return f'{path} is missing'
        if _sum(path) != expected:
            return f'{path} is truncated or altered'
    return ''


def _text(sums: dict[str, str]) -> str:
    own = hashlib.sha256(json.dumps(sums).encode()).hexdigest()
    return json.dumps({'files': sums, 'sum': own}, indent=1)


def _sum(path: pathlib.Path) -> str:
    if path.name == STAMPED:
        content = re.sub(rb'("commit_timestamp_nsecs": )(\d+|null)', rb'\1', path.read_bytes())
        return hashlib.sha256(content).hexdigest()
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
