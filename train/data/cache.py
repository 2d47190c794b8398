"""Decoding happens once: a decoded split is kept as plain arrays on disk, and memory-mapped from there."""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from flaxnets.errors import UserError
from train.data.imageset import ImageSet, finish_checksum
from train.data.sources.records import Records, check_labels, fitted, in_memory

FORMAT = 1  # raise it when what is stored for the same key changes


def cache_folder(configured: str) -> pathlib.Path:
    """`data.cache_dir`, else $FLAXNETS_CACHE, else ~/.cache/flaxnets."""
    return pathlib.Path(configured or os.environ.get('FLAXNETS_CACHE') or '~/.cache/flaxnets').expanduser()


def decoded_once(
    read: Callable[[], Records],
    *,
    name: str,
    split: str,
    version: str,
    size: tuple[int, int] | None,
    channels: int,
    folder: pathlib.Path,
) -> ImageSet:
    """The split's images at `size` and `channels`: from the cache in `folder`, else decoded into it.

    An entry is written beside its place and renamed, under a lock that other processes wait for, and its
    SHA-256 is verified whenever it is read; a corrupt one is decoded again. A cache that cannot be written
    costs a warning and the memory of the decoded arrays.
    """
    key = json.dumps([FORMAT, name, split, version, size, channels])
    stem = re.sub(r'[^\w.-]+', '_', f'{name}-{split}')
    entry = folder / f'{stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(entry.with_name(entry.name + '.lock')))
            if (found := _open(entry, name, split)) is not None:
                return found
            _write(entry, read(), size, channels)
        except OSError as error:
            warnings.warn(
                f'the cache {folder} is not usable ({error}): images are decoded in every run; '
                'set --config.data.cache_dir=DIR to a writable folder',
                RuntimeWarning,
                stacklevel=2,
            )
            return in_memory(read(), size, channels, name=name, split=split)
        found = _open(entry, name, split)
    if found is None:
        raise UserError(
            f'{entry}: what was just written does not read back; check the disk or set data.cache_dir'
        )
    return found


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it. The system lets go of it however the process ends."""
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open(entry: pathlib.Path, name: str, split: str) -> ImageSet | None:
    """The verified entry, or None where there is none or it is corrupt (which is said)."""
    if not entry.exists():
        return None
    try:
        meta = json.loads((entry / 'meta.json').read_text())
        names = tuple(meta['class_names'])
        images = np.load(entry / 'images.npy', mmap_mode='r', allow_pickle=False)
        labels = np.load(entry / 'labels.npy', allow_pickle=False)
        intact = _file_checksum(entry / 'images.npy', images, labels, names) == meta['sha256']
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        intact = False
    if not intact:
        warnings.warn(f'{entry} is corrupt: decoding {name} {split} again', RuntimeWarning, stacklevel=3)
        return None
    return ImageSet(images, labels, names, name, split, meta['sha256'][:16])


def _file_checksum(file: pathlib.Path, images: np.memmap, labels: np.ndarray, names: tuple[str, ...]) -> str:
    """`checksum`, the pixels read from the file: through the map, they would stay in the process's memory."""
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        stream.seek(images.offset)
        while block := stream.read(2**22):
            digest.update(block)
    finish_checksum(digest, images.shape, labels, names)
    return digest.hexdigest()


def _write(entry: pathlib.Path, records: Records, size: tuple[int, int] | None, channels: int) -> None:
    partial = entry.with_name(entry.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        _write_arrays(partial, records, size, channels)
        shutil.rmtree(entry, ignore_errors=True)
        partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_arrays(
    folder: pathlib.Path, records: Records, size: tuple[int, int] | None, channels: int
) -> None:
    """images.npy, labels.npy and meta.json, block by block: no split is ever whole in memory."""
    images, labels = fitted(records, size, channels)
    first = next(images)
    shape = (records.count, *first.shape)
    digest = hashlib.sha256()
    # written, not mapped: a full disk is an error here and a crash there
    with (folder / 'images.npy').open('wb') as file:
        header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(itertools.chain([first], images), 1024):
            digest.update(block)
            file.write(block)
    stored = np.asarray(labels, np.int32)
    check_labels(stored, len(records.class_names), records.file)
    np.save(folder / 'labels.npy', stored)
    finish_checksum(digest, shape, stored, records.class_names)
    meta = {'class_names': records.class_names, 'sha256': digest.hexdigest()}
    (folder / 'meta.json').write_text(json.dumps(meta))


def _blocks(images: Iterator[np.ndarray], length: int) -> Iterator[bytes]:
    while block := list(itertools.islice(images, length)):
        yield np.stack(block).tobytes()
