"""Exceptions that nobody can catch, which Python therefore prints: one kind of them says nothing."""

import sys
from typing import Any


class WithoutLateWrites:
    """Shows all but one kind as `before` does.

    Where a write fails, orbax closes its event loop while TensorStore still has other writes under way, each
    of which then reports that the loop is closed. The failure itself is raised.
    """

    def __init__(self, before: Any):
        self.before = before

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == 'Event loop is closed'):
            self.before(unraisable)


def hide_late_writes() -> None:
    """From now on this process does not print them."""
    if not isinstance(sys.unraisablehook, WithoutLateWrites):
        sys.unraisablehook = WithoutLateWrites(sys.unraisablehook)
