"""The K most similar candidates of every token, the most similar first, the lower index where two are equal.

Three ways to the same indices; `most_similar` takes the one that is fastest where it runs:

    CPU      `by_rounds`: K rounds of (maximum, lowest index that has it), each among the candidates that are
             left. Candidates are the second axis, so that a round runs over many tokens at once; `lax.top_k`
             processes one row after the other, on one core (docs/speed.md).
    CUDA     `selection_pallas.by_kernel`: one kernel, whose similarities stay on the chip. XLA's own top-k
             kernel is for 1024 candidates and more; it sorts fewer. If the kernel does not compile or
             finds other indices in a small trial, `by_top_k`.
    others   `by_top_k`
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxnets.layers.batch import images_within, in_parts

Similarity = Callable[[Array, Array], Array]
Tokens = Float[Array, 'batch tokens features']
Candidates = Float[Array, 'batch candidates features']
Ranks = Int[Array, 'ranks batch tokens']
# Bytes of similarities that stay in the caches while the rounds go over them.
CACHED = 2**22
# What profiles and counts of arithmetic call the selection.
SCOPE = 'neighbour_selection'


@jax.named_scope(SCOPE)
def most_similar(
    similarity: Similarity,
    keys: Tokens,
    queries: Candidates,
    count: int,
    *,
    pool: Int[Array, ' candidates'] | None = None,
    own: float = -math.inf,
) -> Ranks:
    """Which `count` of the candidates (by their position) are most similar to each token, in that order.

    `similarity` maps [..., M, F] and [..., N, F] to [..., M, N], and is symmetric. `pool` says which token
    each candidate is; with it a token's similarity with itself is `own`. Where that is -inf no token chooses
    itself, and `count` other candidates must be left.
    """
    if pool is None:
        pool = jnp.full(queries.shape[1], -1)

    def bound(way: Callable[..., Ranks]) -> Callable[[Tokens, Candidates, Array], Ranks]:
        given = {} if own == -math.inf else {'own': own}
        return lambda keys, queries, pool: way(similarity, keys, queries, count, pool, **given)

    if jax.default_backend() == 'cpu':
        return bound(by_rounds)(keys, queries, pool)
    from flaxnets.layers import selection_pallas  # a tenth of a second to import

    use_kernel = own == -math.inf and selection_pallas.works(by_top_k)
    kernel = selection_pallas.by_kernel if use_kernel else by_top_k
    return jax.lax.platform_dependent(
        keys, queries, pool, cpu=bound(by_rounds), cuda=bound(kernel), default=bound(by_top_k)
    )


def by_top_k(
    similarity: Similarity,
    keys: Tokens,
    queries: Candidates,
    count: int,
    pool: Int[Array, ' candidates'],
    *,
    own: float = -math.inf,
) -> Ranks:
    """By `lax.top_k`."""
    scores = similarity(keys, queries)
    scores = jnp.where(pool == jnp.arange(keys.shape[1])[:, None], own, scores)
    # Ranks first: sliced along its own last axis, XLA would turn top_k into a sort, 20 times slower.
    return jnp.moveaxis(jax.lax.top_k(scores, count)[1], -1, 0)


def by_rounds(
    similarity: Similarity,
    keys: Tokens,
    queries: Candidates,
    count: int,
    pool: Int[Array, ' candidates'],
    *,
    own: float = -math.inf,
) -> Ranks:
    """By `count` rounds over the scores, for as many images at a time as fit into the caches."""
    batch, tokens, _ = keys.shape
    bytes_of_one = tokens * queries.shape[1] * keys.dtype.itemsize
    images = images_within(CACHED, batch, bytes_of_one)

    def some(pair: tuple[Array, Array]) -> Ranks:
        scores = similarity(pair[1], pair[0])
        return _rounds(jnp.where(pool[:, None] == jnp.arange(tokens), own, scores), count)

    if images == batch:
        return some((keys, queries))
    found = jax.lax.map(some, (in_parts(keys, images), in_parts(queries, images)))
    # [parts, ranks, images, tokens]
    return found.transpose(1, 2, 0, 3).reshape(count, batch, tokens)


def _rounds(scores: Float[Array, 'batch candidates tokens'], count: int) -> Ranks:
    """The candidates along the second axis in the order of their scores, the first `count` of them.

    Candidates are divided into groups. A round finds the group with the highest maximum and looks at
    the scores of that group only, so that all scores are read once and not `count` times.
    """
    batch, candidates, tokens = scores.shape
    groups, size = grouping(candidates)
    left_over = groups * size - candidates
    scores = jnp.pad(scores, ((0, 0), (0, left_over), (0, 0)), constant_values=-jnp.inf)
    scores = scores.reshape(batch, groups, size, tokens)
    group, member = (jnp.arange(n, dtype=jnp.int32)[:, None] for n in (groups, size))

    def choose(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        top, taken = state  # [batch, groups, tokens]: maximum of what is left; bits: members chosen before
        best = jnp.max(top, 1, keepdims=True)
        # Never beyond the last one, which NaN would lead to; so for `second`.
        first = jnp.min(jnp.where(top == best, group, groups - 1), 1, keepdims=True)
        here = group == first
        bits = jnp.sum(jnp.where(here, taken, 0), 1, keepdims=True, dtype=taken.dtype)
        inside = jnp.take_along_axis(scores, first[:, :, None], 1, mode='promise_in_bounds')[:, 0]
        left = (bits >> member.astype(bits.dtype)) & 1 == 0
        second = jnp.min(jnp.where(left & (inside == best), member, size - 1), 1, keepdims=True)
        below = jnp.max(jnp.where(left & (member != second), inside, -jnp.inf), 1, keepdims=True)
        bits |= jnp.left_shift(jnp.ones_like(bits), second.astype(bits.dtype))
        return (jnp.where(here, below, top), jnp.where(here, bits, taken)), (first * size + second)[:, 0]

    top = jnp.max(scores, 2)
    found = jax.lax.scan(choose, (top, jnp.zeros(top.shape, jnp.uint32)), length=count)[1]
    return jnp.minimum(found, candidates - 1) if left_over else found


def grouping(candidates: int) -> tuple[int, int]:
    """(groups, their size) for this many candidates, the last group perhaps not full: those with which a
    round has the least to do. A group is 32 at most, the bits of an integer."""
    # A round goes over the groups four times and over one group's members about as often.
    sizes = range(1, min(32, candidates) + 1)
    return min(((-(-candidates // size), size) for size in sizes), key=lambda pair: (sum(pair), pair[1]))
