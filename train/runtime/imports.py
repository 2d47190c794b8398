"""Importing large packages quickly."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector rests meanwhile, and does not look again at what was made.

    Importing JAX and Flax makes a million objects, nearly all of which stay. Looking through them again and
    again takes 0.6 of the 4.4 seconds to the first step of `branching_attn:digits` (docs/speed.md).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """Imports of `package` fail meanwhile, unless it is there already: for libraries that use it where they
    find it, and take long to import it."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
