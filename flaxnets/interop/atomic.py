"""Atomic writes: a file or folder is complete, or it does not exist."""

import contextlib
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path: pathlib.Path, *, shared: bool = False) -> Iterator[pathlib.Path]:
    """A path next to `path` to write a file or folder to, which takes its place when the block ends.

    After an error it is deleted, and `path` is unchanged. A folder replaces only an empty or missing one.
    What a killed process left is deleted first. With `shared`, for paths that several processes may write
    at the same time, each process writes to another name; if it is killed, that file stays.
    """
    partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}' if shared else f'{path.name}.partial')
    _delete(partial)
    try:
        yield partial
        partial.replace(path)
    finally:
        _delete(partial)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file, completely or not at all; what UTF-8 lacks, bytes of odd file names, as escapes."""
    with replacing(path) as partial:
        partial.write_text(text, encoding='utf-8', errors='backslashreplace')


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file, completely or not at all."""
    write_text(path, json.dumps(value, indent=2) + '\n')


def _delete(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
