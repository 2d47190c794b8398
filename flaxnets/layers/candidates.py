"""Which tokens a token may choose its neighbours from: the pool of a ConvNN layer (`nearest.py`).

    all       every token
    random    N tokens drawn anew at every call, in evaluation too
    spatial   N tokens on a square grid from edge to edge of the map

Random and spatial pools are the same for every image of a batch. N of 64 out of 256 tokens cuts the
similarities to a quarter.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from flaxnets.errors import UserError

Pool = Literal['all', 'random', 'spatial']
Indices = Int[Array | np.ndarray, ' candidates']


def spatial_grid(grid: tuple[int, int], num_candidates: int) -> Int[np.ndarray, ' candidates']:
    """Indices of a square grid of tokens, row by row; positions round half to even."""
    side = math.isqrt(num_candidates)
    y, x = (np.round(np.linspace(0, size - 1, side)).astype(int) for size in grid)
    return (y[:, None] * grid[1] + x).ravel()


def draw(tokens: int, num_candidates: int, rngs: nnx.Rngs | None) -> Int[Array, ' candidates']:
    """`num_candidates` different indices below `tokens`, from the stream `rngs.candidates()`.

    Raises:
        UserError: no such stream.
    """
    if rngs is None or not {'candidates', 'default'} & set(rngs):
        raise UserError(
            'candidates: drawing them needs a random stream; call model(images, '
            'rngs=nnx.Rngs(candidates=0)), or give the indices, candidates=[one array a layer]'
        )
    return jax.random.permutation(rngs.candidates(), tokens)[:num_candidates]


def candidates(
    pool: str,
    grid: tuple[int, int],
    num_candidates: int,
    given: Indices | None,
    rngs: nnx.Rngs | None,
) -> Int[Array, ' candidates'] | None:
    """Indices of the pool's tokens; None for all of them. `given` replaces a random draw.

    Raises:
        UserError: indices given to a pool that is not random, or not `num_candidates` of them.
    """
    if given is not None and (pool != 'random' or given.shape != (num_candidates,)):
        expected = f'[{num_candidates}] indices' if pool == 'random' else f"none, its pool being '{pool}'"
        raise UserError(f'candidates: expected {expected} for this layer, got shape {list(given.shape)}')
    if pool == 'all':
        return None
    if given is not None:
        return jnp.asarray(given)
    if pool == 'spatial':
        return jnp.asarray(spatial_grid(grid, num_candidates))
    return draw(math.prod(grid), num_candidates, rngs)


def check(pool: str, grid: tuple[int, int], num_candidates: int, num_neighbors: int) -> None:
    """Raises a `UserError` if there are fewer tokens than candidates or candidates than neighbours."""
    tokens = math.prod(grid)
    if pool == 'all':
        most, among = tokens, f'the {tokens} tokens'
    else:
        side = math.isqrt(num_candidates)
        if pool == 'spatial' and side * side != num_candidates:
            raise UserError(
                f'model.num_candidates: expected a square number for a grid, got {num_candidates}; '
                f'try {side**2} or {(side + 1) ** 2}'
            )
        room = min(grid) ** 2 if pool == 'spatial' else tokens
        if not 1 <= num_candidates <= room:
            raise UserError(
                f'model.num_candidates: expected 1 to {room} of the {grid[0]} x {grid[1]} tokens, '
                f'got {num_candidates}; lower it or use larger images'
            )
        # Each token is its own first neighbour. A random candidate does not choose itself once more.
        most = num_candidates + 1 if pool == 'spatial' else num_candidates
        among = f'{num_candidates} candidates'
    if not 1 <= num_neighbors <= most:
        raise UserError(
            f'model.num_neighbors: expected 1 to {most} among {among}, got {num_neighbors}; lower it'
            + ('' if pool == 'all' else ' or raise model.num_candidates')
        )
