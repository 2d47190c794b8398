"""The K most similar candidates of every token, the most similar first, the lower index where two are equal.

Three ways to the same indices; `most_similar` takes the one that is fastest where it runs:

    CPU      `by_rounds`: K rounds of (maximum, lowest index that has it), each looking below what the round
             before found. Candidates lie along the second axis, so that a round runs over many tokens
             at once; `lax.top_k` takes one row after the other, on one core: 2.5 times as long for 64
             candidates, 1.4 times for 256, similarities included (docs/speed.md).
    CUDA     `selection_pallas.by_kernel`: one kernel, similarities never leave the chip. XLA's own top-k
             kernel serves 1024 candidates and more; fewer it sorts. Where the kernel does not
             compile or finds other indices in a small trial, `by_top_k`.
    others   `by_top_k`
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Similarity = Callable[[Array, Array], Array]
Tokens = Float[Array, 'batch tokens features']
Candidates = Float[Array, 'batch candidates features']
Ranks = Int[Array, 'ranks batch tokens']
# Bytes of similarities that stay in the caches while the rounds go over them.
CACHED = 2**22


def most_similar(
    similarity: Similarity,
    keys: Tokens,
    queries: Candidates,
    count: int,
    *,
    pool: Int[Array, ' candidates'] | None = None,
) -> Ranks:
    """Which `count` of the candidates (by their position) are most similar to each token, in that order.

    `similarity` maps [..., M, F] and [..., N, F] to [..., M, N], and is symmetric. With `pool`, the tokens
    that the candidates are, no token chooses itself; `count` candidates must be left.
    """
    if pool is None:
        pool = jnp.full(queries.shape[1], -1)

    def bound(way: Callable[..., Ranks]) -> Callable[[Tokens, Candidates, Array], Ranks]:
        return lambda keys, queries, pool: way(similarity, keys, queries, count, pool)

    if jax.default_backend() == 'cpu':
        return bound(by_rounds)(keys, queries, pool)
    from flaxnets.layers import selection_pallas  # a tenth of a second to import

    kernel = selection_pallas.by_kernel if selection_pallas.works(by_top_k) else by_top_k
    return jax.lax.platform_dependent(
        keys, queries, pool, cpu=bound(by_rounds), cuda=bound(kernel), default=bound(by_top_k)
    )


def by_top_k(
    similarity: Similarity, keys: Tokens, queries: Candidates, count: int, pool: Int[Array, ' candidates']
) -> Ranks:
    """By `lax.top_k`."""
    scores = similarity(keys, queries)
    scores = jnp.where(pool == jnp.arange(keys.shape[1])[:, None], -jnp.inf, scores)
    # Ranks first: sliced along its own last axis, XLA would turn top_k into a sort, 20 times slower.
    return jnp.moveaxis(jax.lax.top_k(scores, count)[1], -1, 0)


def by_rounds(
    similarity: Similarity, keys: Tokens, queries: Candidates, count: int, pool: Int[Array, ' candidates']
) -> Ranks:
    """By `count` passes over the scores, for so many images at a time as the caches hold."""
    batch, tokens, _ = keys.shape
    bytes_of_one = tokens * queries.shape[1] * keys.dtype.itemsize
    images = max(n for n in range(1, batch + 1) if batch % n == 0 and (n == 1 or n * bytes_of_one <= CACHED))

    def some(pair: tuple[Array, Array]) -> Ranks:
        scores = similarity(pair[1], pair[0])
        return _rounds(jnp.where(pool[:, None] == jnp.arange(tokens), -jnp.inf, scores), count)

    if images == batch:
        return some((keys, queries))
    # Image i * parts + j in part j: a batch divided among devices stays divided.
    parts = [jnp.moveaxis(x.reshape(images, -1, *x.shape[1:]), 1, 0) for x in (keys, queries)]
    found = jax.lax.map(some, tuple(parts))  # [parts, ranks, images, tokens]
    return found.transpose(1, 2, 0, 3).reshape(count, batch, tokens)


def _rounds(scores: Float[Array, 'batch candidates tokens'], count: int) -> Ranks:
    """The candidates along the second axis in the order of their scores, the first `count` of them."""
    size = scores.shape[1]
    index = jnp.arange(size, dtype=jnp.int32)[:, None]

    def next_below(last: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        score, at = last
        left = (scores < score) | ((scores == score) & (index > at))
        best = jnp.max(jnp.where(left, scores, -jnp.inf), 1, keepdims=True)
        # Never beyond the last one, which NaN would lead to.
        first = jnp.min(jnp.where(left & (scores == best), index, size - 1), 1, keepdims=True)
        return (best, first), first[:, 0]

    start = jnp.full_like(scores[:, :1], jnp.inf), jnp.full(scores[:, :1].shape, -1, jnp.int32)
    return jax.lax.scan(next_below, start, length=count)[1]
