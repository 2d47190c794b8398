"""The costliest operators of a step, read from a trace of JAX's profiler."""

import collections
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax

STEPS = 5


def trace(folder: pathlib.Path, step: Callable[[], Any]) -> None:
    """Runs a few steps and writes their trace, for TensorBoard's profile tab and Perfetto."""
    step()
    with jax.profiler.trace(str(folder)):
        for _ in range(STEPS):
            step()


def costliest(folder: pathlib.Path, program: str, count: int = 10) -> list[dict[str, Any]]:
    """[{'operator', 'seconds' a step, 'times' a step}] of the newest trace, the costliest first.

    `program` is the step's compiled HLO, which says of which JAX operation each of its operators is a part.
    Operators of one kind for one operation are one line; of several threads the times add up.
    """
    file = max(folder.glob('**/*.xplane.pb'), key=lambda path: path.stat().st_mtime)
    known = operations(program)
    seconds: dict[str, float] = collections.defaultdict(float)
    times: dict[str, int] = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            if plane.name.startswith('/device:') and line.name != 'XLA Ops' and 'Stream' not in line.name:
                continue
            for event in line.events:
                if (operator := dict(event.stats).get('hlo_op')) is not None:
                    name = kind(str(operator)) + known.get(str(operator), '')
                    seconds[name] += event.duration_ns / 1e9
                    times[name] += 1
    order = sorted(seconds, key=lambda name: -seconds[name])[:count]
    return [
        {'operator': name, 'seconds': seconds[name] / STEPS, 'times': times[name] / STEPS} for name in order
    ]


def kind(operator: str) -> str:
    """`dot.12` without its number."""
    return re.sub(r'(\.\d+|\.clone)+$', '', operator)


def operations(program: str) -> dict[str, str]:
    """{operator: ' of dot_general, backward'} of a compiled program."""
    found = re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*op_name="([^"]*)"', program, re.MULTILINE)
    return {
        operator: f' of {path.rpartition("/")[2]}' + (', backward' if 'transpose(' in path else '')
        for operator, path in found
    }
