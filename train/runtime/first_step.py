"""How long a run's first step takes where it must be compiled, stored with the compiled programs."""

import contextlib
import json
import pathlib
import time
from typing import Any

import jax

from flaxnets.interop.atomic import write_json

FILE = 'first_step.json'
# JAX's event for a program that was compiled and is now kept on disk.
COMPILED = '/jax/compilation_cache/cache_misses'


class FirstStep:
    """Times the first step from now on; `program` names what is compiled.

    `remembered` are the seconds that it took the last times it had to be compiled; None if that is not known.
    """

    def __init__(self, program: str):
        self.program = program
        self.began = time.monotonic()
        self.compiled = False
        self.remembered = _read().get(program)
        jax.monitoring.register_event_listener(self._listen)

    def ended(self) -> None:
        """Remembers the time, unless the step was compiled before and only read from disk."""
        jax.monitoring.unregister_event_listener(self._listen)
        if self.compiled and (path := _path()) is not None:
            # The longest: another start may have found half of it on disk.
            seconds = max(time.monotonic() - self.began, self.remembered or 0.0)
            with contextlib.suppress(OSError):
                write_json(path, _read() | {self.program: seconds})

    def _listen(self, event: str, **_: Any) -> None:
        self.compiled |= event == COMPILED


def _path() -> pathlib.Path | None:
    """The file, in the folder of compiled programs; None where there is none, or it is a bucket."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return None if not folder or '://' in folder else pathlib.Path(folder) / FILE


def _read() -> dict[str, float]:
    """What the file says, as far as it is readable."""
    try:
        known = json.loads(_path().read_text())  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return {}
    known = known.items() if isinstance(known, dict) else ()
    return {program: float(seconds) for program, seconds in known if isinstance(seconds, int | float)}
