"""Atomic writes: a file or folder is there whole, or it is not there."""

import contextlib
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path: pathlib.Path, *, shared: bool = False) -> Iterator[pathlib.Path]:
    """A path beside `path` to write a file or folder to, which takes its place when the block ends.

    After an error it is deleted, and `path` is as it was. A folder replaces only an empty or missing one.
    What a killed process left is deleted first. With `shared`, for paths that several processes may write
    at once, each writes to a name of its own instead, so that they do not mix; a killed one leaves it.
    """
    partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}' if shared else f'{path.name}.partial')
    _delete(partial)
    try:
        yield partial
        partial.replace(path)
    finally:
        _delete(partial)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a whole file or none."""
    with replacing(path) as partial:
        partial.write_text(text, encoding='utf-8')


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a whole JSON file or none."""
    write_text(path, json.dumps(value, indent=2) + '\n')


def _delete(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
