"""Full disks, missing folders, too little memory: one line with the cause and what to do."""

import contextlib
import errno
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from flaxnets.errors import UserError
from train.checkpointing.checkpoints import committed
from train.runtime.causes import causes

# orbax writes through TensorStore, whose errors contain the system's error only as text.
SYSTEM = {
    errno.ENOSPC: ('no space left', 'disk full', 'ENOSPC'),
    errno.EDQUOT: ('quota exceeded', 'EDQUOT'),
    errno.EFBIG: ('file too large', 'EFBIG'),
    errno.EROFS: ('read-only file system', 'EROFS'),
    errno.EACCES: ('permission denied', 'EACCES', 'PERMISSION_DENIED'),
    errno.ENOENT: ('no such file or directory', 'ENOENT'),
    errno.EIO: ('input/output error', 'EIO'),
}
REMEDIES = {
    errno.ENOSPC: 'the disk is full: free some space, or lower --config.checkpoint.keep',
    errno.EDQUOT: 'the disk quota is used up: free some space, or lower --config.checkpoint.keep',
    errno.EFBIG: 'a file may not grow that large here: raise the limit (ulimit -f)',
    errno.EROFS: 'the file system is read-only: choose another --workdir, or mount it for writing',
    errno.EACCES: 'permission denied: choose another --workdir, or change the permissions',
    errno.EPERM: 'permission denied: choose another --workdir, or change the permissions',
    errno.ENOENT: 'a file or folder has disappeared: restore it',
    errno.EIO: 'the disk cannot be read or written: check it',
    errno.EMFILE: 'too many open files: raise the limit (ulimit -n)',
}


@contextlib.contextmanager
def explained(config: Any, workdir: pathlib.Path) -> Iterator[None]:
    """Turns errors of the operating system, and too little memory, into a `UserError`; other errors pass."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not (cause := out_of_memory(error, config) or system(error)):
            raise
        raise UserError(f'{cause}. {progress(workdir)}') from error


def system(error: BaseException) -> str:
    """Cause and remedy of an error that the operating system reported; empty for any other."""
    for each in causes(error):
        number = each.errno if isinstance(each, OSError) else None
        name = f'{each.filename}: ' if isinstance(each, OSError) and each.filename else ''
        if number is None:
            text = str(each)
            number = next((n for n, words in SYSTEM.items() if any(w in text for w in words)), None)
            if number is None:
                number = next((n for n, (w, *_) in SYSTEM.items() if w in text.lower()), None)
            name = _path(text)
        if number is not None:
            reason = each.strerror if isinstance(each, OSError) and each.strerror else type(each).__name__
            return name + REMEDIES.get(number, str(reason))
    return ''


def _path(text: str) -> str:
    """The file that a text names, and a colon; TensorStore's own keys, such as /kernel/0.0, are none."""
    for path in re.findall(r'(?<![\w.])/[^\s"\':;,\]]+', text):
        if any(parent.is_dir() for parent in list(pathlib.Path(path).parents)[:-1]):
            return f'{path}: '
    return ''


def out_of_memory(error: BaseException, config: Any) -> str:
    """Cause and remedy where the device or the machine ran out of memory; empty for any other error."""
    for each in causes(error):
        text = str(each)
        if isinstance(each, OSError) or any(words[0] in text.lower() for words in SYSTEM.values()):
            return ''  # TensorStore calls a full disk an exhausted resource too
        if isinstance(each, MemoryError) or re.search('RESOURCE_EXHAUSTED|[Oo]ut of memory', text):
            wanted = re.search(r'allocat(?:e|ing) ([\d.]+ ?[KMGT]?i?B|\d+ bytes)', text)
            size = config.data.batch_size
            smaller, many = largest_half(size), config.optimizer.accumulate
            # With this many batches per update, an update sees as many images as before.
            many = -(-size * many // smaller)
            advice = (
                f'--config.data.batch_size={smaller} (--config.optimizer.accumulate={many} keeps the update)'
            )
            return (
                f'out of memory{f" (allocating {wanted[1]})" if wanted else ""} at batch size {size}: '
                f'try {advice if size > 1 else "a smaller model"} or --config.precision=bfloat16'
            )
    return ''


def largest_half(size: int) -> int:
    """The largest power of two that is at most half of `size`."""
    return 1 << (max(size // 2, 1).bit_length() - 1)


def progress(workdir: pathlib.Path) -> str:
    """The step from which the run can continue, in words."""
    try:
        steps = committed(workdir / 'checkpoints')
    except OSError:
        steps = []
    if not steps:
        return f'There is no checkpoint in {workdir} yet'
    return f'The last good checkpoint is step {steps[-1]} in {workdir}; the same command continues from it'
