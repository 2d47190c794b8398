"""Equal blocks one after the other, as one compiled loop that keeps little for the backward pass.

XLA compiles one block, not every one. In the backward pass a block computes itself again, from its input
and from what it marked by `kept`: the products of matrices and the choice of neighbours. Without the loop XLA
would find on a CPU that both passes compute the same things, and keep these instead.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from flaxnets.layers.candidates import Indices

KEPT = 'kept'
_WRITTEN_OUT = contextvars.ContextVar('written_out', default=False)


def kept(x: Array) -> Array:
    """`x`, which `through` stores for the backward pass."""
    return checkpoint_name(x, KEPT)


@contextlib.contextmanager
def written_out() -> Iterator[None]:
    """Inside, `through` calls block after block without a loop, for who watches a model's modules."""
    token = _WRITTEN_OUT.set(True)
    try:
        yield
    finally:
        _WRITTEN_OUT.reset(token)


def through(
    blocks: Sequence[nnx.Module],
    x: Float[Array, 'batch *rest'],
    candidates: Sequence[Indices | None],
    rngs: nnx.Rngs | None,
) -> Float[Array, 'batch *rest']:
    """What the last block gives. Each is called with its own of `candidates`, and with random streams that
    start with its own draws from `rngs`."""
    parts = [nnx.split(block) for block in blocks]
    given = [
        (state, own, {} if rngs is None else {name: stream() for name, stream in rngs.items()})
        for (_, state), own in zip(parts, candidates, strict=True)
    ]
    if _WRITTEN_OUT.get() or any(graph != parts[0][0] for graph, _ in parts):
        for block, (_, own, keys) in zip(blocks, given, strict=True):
            x = _call(block, x, own, keys)
        return x
    if not blocks:
        return x

    def step(x, given):
        state, own, keys = given
        return _call(nnx.merge(parts[0][0], state), x, own, keys), None

    policy = jax.checkpoint_policies.save_only_these_names(KEPT)
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *given)
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False, policy=policy), x, stacked)[0]


def _call(block, x: Array, candidates: Indices | None, keys: dict[str, Array]) -> Array:
    return block(x, candidates=candidates, rngs=nnx.Rngs(**keys) if keys else None)
