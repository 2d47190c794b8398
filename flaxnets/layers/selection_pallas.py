"""Selection of the most similar candidates as one GPU kernel, in Pallas through Triton.

A program processes some tokens of one image: their similarities with all candidates are one product, which
stays on the chip, then follow `count` rounds of (maximum, lowest index that has it, mask it). The sides of
Triton's blocks are powers of two, for the product at least 16: features are padded with zeros, which change
no product, and the padding of the candidates is masked.

Tested on CPU in Pallas's interpret mode, and lowered to Triton (tests/flaxnets/layers/test_selection.py). It
has not run on a GPU: `works` tries it there before it is used.
"""

import concurrent.futures
import functools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

# Tokens that a program processes.
BLOCK = 32


@functools.cache
def works(expected: Callable[..., Array]) -> bool:
    """Whether the kernel compiles here and finds the same as `expected` in random tokens; warns if not."""

    def trial() -> bool:
        keys = jax.random.normal(jax.random.key(0), (2, 40, 12))
        arguments = _product, keys, keys[:, :24], 8, jnp.arange(24)
        return bool(jnp.all(by_kernel(*arguments) == expected(*arguments)))

    try:
        # In a thread of its own, outside of the program that is being traced.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            equal = thread.submit(trial).result()
        failure = 'finds other indices'
    except Exception as error:  # whatever Triton or the driver cannot do
        equal, failure = False, f'fails: {error}'
    if not equal:
        warnings.warn(f'neighbours are selected by lax.top_k: the GPU kernel {failure}', stacklevel=2)
    return equal


def _product(a: Array, b: Array) -> Array:
    return jnp.einsum('...tc,...nc->...tn', a, b, precision=jax.lax.Precision.HIGHEST)


def by_kernel(
    similarity: Callable[[Array, Array], Array],
    keys: Float[Array, 'batch tokens features'],
    queries: Float[Array, 'batch candidates features'],
    count: int,
    pool: Int[Array, ' candidates'],
    *,
    interpret: bool = False,
) -> Int[Array, 'ranks batch tokens']:
    """As `selection.by_top_k`. `similarity` must be computed from jax.numpy alone."""
    (batch, tokens, _), candidates = keys.shape, queries.shape[1]
    block = min(BLOCK, _power_of_two(tokens))
    keys = _filled(keys, -(-tokens // block) * block)
    queries = _filled(queries, _power_of_two(candidates))
    # -2 marks padding; -1, used where tokens may choose themselves, is no token either.
    pool = jnp.pad(pool.astype(jnp.int32), (0, queries.shape[1] - candidates), constant_values=-2)
    rows, features = keys.shape[1], keys.shape[2]
    found = pl.pallas_call(
        functools.partial(_kernel, similarity=similarity, count=count, last=candidates - 1),
        out_shape=jax.ShapeDtypeStruct((count, batch, rows), jnp.int32),
        grid=(batch, rows // block),
        in_specs=[
            pl.BlockSpec((1, block, features), lambda image, part: (image, part, 0)),
            pl.BlockSpec((1, *queries.shape[1:]), lambda image, part: (image, 0, 0)),
            pl.BlockSpec(pool.shape, lambda image, part: (0,)),
        ],
        out_specs=pl.BlockSpec((count, 1, block), lambda image, part: (0, image, part)),
        interpret=interpret,
        compiler_params=None if interpret else triton.CompilerParams(),
    )(keys, queries, pool)
    return found[:, :, :tokens]


def _kernel(keys_ref, queries_ref, pool_ref, found_ref, *, similarity, count, last):
    keys, queries, pool = keys_ref[0], queries_ref[0], pool_ref[...]
    token = pl.program_id(1) * keys.shape[0] + jnp.arange(keys.shape[0])
    index = jnp.arange(len(pool))[None]
    excluded = (pool == -2)[None] | (pool[None] == token[:, None])
    scores = jnp.where(excluded, -jnp.inf, similarity(keys, queries))

    for rank in range(count):
        best = jnp.max(scores, 1, keepdims=True)
        # Never beyond the last candidate, which NaN would lead to.
        first = jnp.min(jnp.where(scores == best, index, last), 1)
        found_ref[rank, 0, :] = first
        scores = jnp.where(index == first[:, None], -jnp.inf, scores)


def _filled(x: Float[Array, 'batch some features'], rows: int) -> Float[Array, 'batch more wider']:
    """`x` with zeros up to this many rows, and features up to a power of two."""
    return jnp.pad(x, ((0, 0), (0, rows - x.shape[1]), (0, _power_of_two(x.shape[2]) - x.shape[2])))


def _power_of_two(size: int) -> int:
    """The next one from 16 up."""
    return max(16, 1 << (size - 1).bit_length())
