"""Compiled functions whose convolutions and products are oneDNN's, for a run on one CPU."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from flaxnets.layers import onednn
from train.config import ConfigDict
from train.distributed.devices import Devices


def by_onednn(config: ConfigDict, devices: Devices) -> bool:
    """Whether convolutions and products are oneDNN's: the config allows it, one CPU has it, in float32."""
    alone = devices.platform == 'cpu' and devices.count == 1 and devices.parallel != 'pmap'
    return config.convolution == 'auto' and config.precision == 'float32' and alone and onednn.available()


def compiler(compile: Callable[..., Any], fast: bool) -> Callable[..., Any]:
    """`compile`, such as `jax.jit`; if `fast`, what it compiles has oneDNN's convolutions and products."""

    def compiled(function: Callable[..., Any], **how: Any) -> NotKept:
        @functools.wraps(function)
        def traced(*args: Any) -> Any:
            with onednn.used():
                return function(*args)

        return NotKept(compile(traced, **how))

    return compiled if fast else compile


class NotKept:
    """A jitted function whose compiled programs are not stored: JAX cannot store a call of oneDNN."""

    def __init__(self, jitted: Any):
        self.trace = jitted.trace
        self._jitted = jitted

    def __call__(self, *args: Any) -> Any:
        with not_kept():
            return self._jitted(*args)

    def lower(self, *args: Any) -> 'NotKeptLowered':
        return NotKeptLowered(self._jitted.lower(*args))


class NotKeptLowered:
    """What `NotKept.lower` returns, to be compiled."""

    def __init__(self, lowered: jax.stages.Lowered):
        self._lowered = lowered

    def compile(self) -> jax.stages.Compiled:
        with not_kept():
            return self._lowered.compile()


@contextlib.contextmanager
def not_kept() -> Iterator[None]:
    """Programs that are compiled inside are not stored on disk."""
    name = 'jax_persistent_cache_min_compile_time_secs'
    before = getattr(jax.config, name)
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)
