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
    scores = ordered(scores)
    lowest = jnp.iinfo(scores.dtype).min
    scores = jnp.pad(scores, ((0, 0), (0, groups * size - candidates), (0, 0)), constant_values=lowest)
    scores = scores.reshape(batch, groups, size, tokens)
    group, member = (jnp.arange(n, dtype=jnp.int32)[:, None] for n in (groups, size))

    def choose(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        # [batch, groups, tokens]: the maximum of what is left of a group, and the last member with that
        # score that was chosen before, or -1.
        top, last = state
        best = jnp.max(top, 1, keepdims=True)
        first = jnp.min(jnp.where(top == best, group, groups - 1), 1, keepdims=True)
        here = group == first
        before = jnp.max(jnp.where(here, last, -1), 1, keepdims=True)
        inside = jnp.take_along_axis(scores, first[:, :, None], 1, mode='promise_in_bounds')[:, 0]
        equal = inside == best
        second = jnp.min(jnp.where(equal & (member > before), member, size - 1), 1, keepdims=True)
        left = (inside < best) | (equal & (member > second))
        below = jnp.max(jnp.where(left, inside, lowest), 1, keepdims=True)
        last = jnp.where(here, jnp.where(below == best, second, -1), last)
        return (jnp.where(here, below, top), last), (first * size + second)[:, 0]

    top = jnp.max(scores, 2)
    return jax.lax.scan(choose, (top, jnp.full(top.shape, -1, jnp.int32)), length=count)[1]


def ordered(x: Float[Array, '*shape']) -> Int[Array, '*shape']:
    """Integers in the order of the numbers, and above the lowest integer. XLA computes maxima of integers
    together with what comes before, those of floats in a pass of their own."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0, x), f'int{8 * x.dtype.itemsize}')
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def grouping(candidates: int) -> tuple[int, int]:
    """(groups, their size) for this many candidates, the last group perhaps not full: those with which a
    round has the least to do."""
    # A round goes over the groups about as often as over one group's members. Groups of more than 32 take
    # longer than that says, and so does filling the last group, for which all scores are copied.
    sizes = range(1, min(32, candidates) + 1)
    pairs = [(-(-candidates // size), size) for size in sizes]
    return min(pairs, key=lambda pair: (sum(pair) * (1.5 if math.prod(pair) > candidates else 1), pair[1]))
