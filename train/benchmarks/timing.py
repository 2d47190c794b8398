"""Timing functions fairly on a busy machine, and the description of the machine."""

import importlib.metadata
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from train.distributed.devices import Devices

PAUSE = 0.02  # seconds


def alternate(
    functions: dict[str, Callable[[], Any]], rounds: int, before: dict[str, Callable[[], Any]] | None = None
) -> dict[str, list[float]]:
    """{name: seconds of each round}, the functions called in turns after one call that does not count.

    A pause before each, because PyTorch's threads look for work for some milliseconds more, on all cores.
    What is in `before` is called before each round and does not count: a step, say, because the first one
    after the other side's takes its memory from the system again.
    """
    warm = before or {}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            time.sleep(PAUSE)
            if name in warm:
                warm[name]()
            started = time.perf_counter()
            function()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rate(count: int, seconds: Sequence[float]) -> float:
    """`count` a second, in the median round."""
    return count / statistics.median(seconds)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """What the numbers were measured on, and how busy it was."""
    from train import memory
    from train.checkpointing.meta import versions

    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
        processor = next(line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        'processor': processor,
        'cores': cores(),
        'available_memory': memory.available(),
        'device': Devices.create('single').describe(),
        'load_average': os.getloadavg()[0],
        'versions': versions(),
    }


def platform_name() -> str:
    """'cpu', 'gpu' or 'tpu'."""
    return Devices.create('single').platform


def torch_version() -> str:
    """Of the PyTorch that is compared with."""
    return importlib.metadata.version('torch')
