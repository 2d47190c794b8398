"""Memory of a data set, in a process of its own: `train.benchmarks.memory resident|decode NAME DATA_DIR`.

Prints one line of JSON: bytes of the set's images, what the process (or the device) grew by, and its peak.
"""

import json
import pathlib
import resource
import sys
import tempfile
from typing import Any

import jax

from train import config as options
from train import data, memory
from train.data.pipeline import OnDevice, Resident
from train.distributed.devices import Devices

SPLITS = ('train', 'test')


def resident(settings: Any) -> dict[str, int]:
    """The memory of the cached set on the device."""
    warm = options.defaults().data
    warm.name = 'digits'
    read = jax.jit(lambda images: images.max())
    for chosen in (warm, settings):  # what is imported, compiled and cached on the way is not counted
        for images in put(chosen):
            jax.block_until_ready(read(images.images))
    del images
    before = in_use()
    placed = put(settings)
    for images in placed:  # on a CPU the set is the cache's memory map, which takes memory when it is read
        jax.block_until_ready(read(images.images))
    grown = in_use() - before
    return {'images': sum(images.images.nbytes for images in placed), 'grown': grown, 'peak': memory.peak()}


def decode(settings: Any) -> dict[str, int]:
    """The most memory that is in use while the set is decoded into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        settings.cache_dir = folder
        size = sum(s.images.nbytes for s in data.load_splits(settings, SPLITS).values())
    return {'images': size, 'peak': memory.peak()}


def put(settings: Any) -> list[Resident]:
    """Both splits on the first device."""
    devices = Devices.create('single')
    sets = data.load_splits(settings, SPLITS).values()
    return [jax.block_until_ready(OnDevice(s, replicate=devices.replicate).resident) for s in sets]


def in_use() -> int:
    """Bytes that the device has given away; on a CPU, the process's memory."""
    (device,) = jax.numpy.zeros(()).devices()
    if (stats := device.memory_stats()) is not None:
        return stats['bytes_in_use']
    pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
    return int(pages) * resource.getpagesize()


if __name__ == '__main__':
    what, name, data_dir = sys.argv[1:]
    settings = options.defaults().data
    settings.name, settings.data_dir = name, data_dir
    print(json.dumps({'resident': resident, 'decode': decode}[what](settings)))
