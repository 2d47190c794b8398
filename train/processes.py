"""Several processes that compute as one: JAX's own distributed runtime, started and ended with care."""

import jax


def count() -> int:
    """How many processes there are."""
    return jax.process_count()


def index() -> int:
    """This one's number."""
    return jax.process_index()


def first() -> bool:
    """Whether this one writes what only one may write."""
    return index() == 0
