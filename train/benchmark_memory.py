"""Memory of a data set, in a process of its own: `train.benchmark_memory resident|decode NAME DATA_DIR`.

Prints one line of JSON: bytes of the set's images, what the process (or the device) grew by, and its peak.
"""

import json
import pathlib
import resource
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from train import config as options
from train import data, parallel
from train.data.pipeline import Resident

SPLITS = ('train', 'test')


def resident(settings: Any) -> dict[str, int]:
    """What stays when the cached set lies on the device."""
    warm = options.defaults().data
    warm.name = 'digits'
    for images in (warm, settings):  # what is imported and cached on the way belongs to neither
        put(images)
    before = in_use()
    held = put(settings)
    grown = in_use() - before
    return {'images': sum(images.images.nbytes for images in held), 'grown': grown, 'peak': peak()}


def decode(settings: Any) -> dict[str, int]:
    """What is held at most while the set is decoded into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        settings.cache_dir = folder
        size = sum(data.load(settings, split).images.nbytes for split in SPLITS)
    return {'images': size, 'peak': peak()}


def put(settings: Any) -> list[Resident]:
    """Both splits on the first device."""
    devices = parallel.Devices.create('single')
    sets = [data.load(settings, split) for split in SPLITS]
    arrays: list[Any] = [(np.asarray(images.images), images.labels) for images in sets]
    return [jax.block_until_ready(devices.replicate(Resident(*each))) for each in arrays]


def in_use() -> int:
    """Bytes that the device has given away; on a CPU, the process's memory."""
    (device,) = jax.numpy.zeros(()).devices()
    if (stats := device.memory_stats()) is not None:
        return stats['bytes_in_use']
    pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
    return int(pages) * resource.getpagesize()


def peak() -> int:
    """The most memory that the process ever had."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == 'darwin' else most * 1024


if __name__ == '__main__':
    what, name, data_dir = sys.argv[1:]
    settings = options.defaults().data
    settings.name, settings.data_dir = name, data_dir
    print(json.dumps({'resident': resident, 'decode': decode}[what](settings)))
