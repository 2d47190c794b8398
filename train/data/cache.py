"""Decoding happens once: a decoded split is stored as plain arrays on disk, and memory-mapped from there."""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO

import filelock
import numpy as np

from flaxnets.errors import UserError
from flaxnets.interop.atomic import replacing
from train.data.imageset import ImageSet, checksum
from train.data.sources.records import Records, check_labels, fitted, in_memory
from train.memory import megabytes
from train.progress import Progress, shown

BLOCK = 2**22  # bytes written at a time
FORMAT = 1  # to be increased when the stored arrays of the same key change


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

    An entry is written to a temporary folder and renamed, under a lock that other processes wait for, and
    its SHA-256 is verified whenever it is read; a corrupt one is decoded again. If the cache cannot be
    written, or its disk is full, a warning says so and the arrays are decoded into memory; if they do not
    fit there either, that is a UserError.
    """
    key = json.dumps([FORMAT, name, split, version, size, channels])
    stem = re.sub(r'[^\w.-]+', '_', f'{name}-{split}')
    entry = folder / f'{stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(shown())

        def records() -> Records:
            what = f'decoding {name} {split}'
            progress(what)
            found = read()
            return dataclasses.replace(found, items=progress.track(found.items, what, found.count))

        try:
            folder.mkdir(parents=True, exist_ok=True)
            progress(f'waiting for another process that decodes {name} {split}')
            stack.enter_context(filelock.FileLock(f'{entry}.lock'))
            if (found := _open(entry, name, split, progress)) is not None:
                return found
            _write(entry, records(), size, channels)
        except OSError as error:
            warnings.warn(
                f'the cache {folder} is not usable ({error}): images are decoded in every run; '
                'set --config.data.cache_dir=DIR to a writable folder with enough space',
                RuntimeWarning,
                stacklevel=2,
            )
            return in_memory(records(), size, channels, name=name, split=split)
        found = _open(entry, name, split, progress)
    if found is None:
        raise UserError(
            f'{entry}: what was just written cannot be read; check the disk or set data.cache_dir'
        )
    return found


def _open(entry: pathlib.Path, name: str, split: str, progress: Progress) -> ImageSet | None:
    """The verified entry; None if there is none, and with a warning if it is corrupt."""
    if not entry.exists():
        return None
    file = entry / 'images.npy'
    try:
        meta = json.loads((entry / 'meta.json').read_text())
        names = tuple(meta['class_names'])
        images = np.load(file, mmap_mode='r', allow_pickle=False)
        labels = np.load(entry / 'labels.npy', allow_pickle=False)
        blocks = _stored(file, images.offset)
        blocks = progress.track(blocks, f'verifying {name} {split}', -(-images.nbytes // BLOCK))
        intact = checksum(blocks, images.shape, labels, names) == meta['sha256']
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        intact = False
    if not intact:
        warnings.warn(f'{entry} is corrupt: decoding {name} {split} again', RuntimeWarning, stacklevel=3)
        return None
    return ImageSet(images, labels, names, name, split, meta['sha256'], file=file)


def _stored(file: pathlib.Path, offset: int) -> Iterator[bytes]:
    """The pixels, read from the file: if they were read through the map, they would stay in memory."""
    with file.open('rb') as stream:
        stream.seek(offset)
        while block := stream.read(BLOCK):
            yield block


def _write(entry: pathlib.Path, records: Records, size: tuple[int, int] | None, channels: int) -> None:
    with replacing(entry) as partial:
        partial.mkdir()
        _write_arrays(partial, records, size, channels)
        shutil.rmtree(entry, ignore_errors=True)


def _write_arrays(
    folder: pathlib.Path, records: Records, size: tuple[int, int] | None, channels: int
) -> None:
    """images.npy, labels.npy and meta.json, block by block: no split is ever whole in memory."""
    images, labels = fitted(records, size, channels)
    first = next(images)
    shape = (records.count, *first.shape)
    if (needed := math.prod(shape)) > (free := shutil.disk_usage(folder).free):
        raise OSError(errno.ENOSPC, f'{megabytes(needed)} needed, {megabytes(free)} free')
    # written, not mapped: a full disk is an error when writing and a crash when mapping
    with (folder / 'images.npy').open('wb') as file:
        header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
        np.lib.format.write_array_header_1_0(file, header)
        length = max(BLOCK // first.nbytes, 1)
        blocks = _written(_blocks(itertools.chain([first], images), length), file)
        sha256 = checksum(blocks, shape, labels, records.class_names)
    stored = np.asarray(labels, np.int32)
    check_labels(stored, len(records.class_names), records.file)
    np.save(folder / 'labels.npy', stored)
    (folder / 'meta.json').write_text(json.dumps({'class_names': records.class_names, 'sha256': sha256}))


def _blocks(images: Iterator[np.ndarray], length: int) -> Iterator[bytes]:
    while block := list(itertools.islice(images, length)):
        yield np.stack(block).tobytes()


def _written(blocks: Iterator[bytes], file: BinaryIO) -> Iterator[bytes]:
    for block in blocks:
        file.write(block)
        yield block
