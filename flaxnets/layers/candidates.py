"""How candidates are sampled: the pool of tokens from which a ConvNN layer (`nearest.py`) chooses.

    AllTokens       every token
    RandomTokens    N tokens drawn anew at every call, in evaluation too
    GridTokens      N tokens on a square grid over the whole feature map

Random and grid pools are the same for every image of a batch. With N = 64 of 256 tokens only a quarter of
the similarities is computed.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from flaxnets.errors import UserError
from flaxnets.options import Options, option

Indices = Int[Array | np.ndarray, ' candidates']
_MORE = 'lower it or raise model.num_candidates'


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
            'rngs=nnx.Rngs(candidates=0)), or give the indices, candidates=[one array per layer]'
        )
    return jax.random.permutation(rngs.candidates(), tokens)[:num_candidates]


def dealt(given: Sequence[Indices] | None, drawing: Sequence[bool]) -> list[Indices | None]:
    """The candidates given to a model, those of each layer; `drawing` says which layers would draw them.

    Raises:
        UserError: more or fewer than there are such layers.
    """
    if given is not None and len(given) != sum(drawing):
        raise UserError(
            f'candidates: expected one index array for each of the {sum(drawing)} layers that draw them, '
            f'got {len(given)}'
        )
    arrays = iter(given or [])
    return [next(arrays, None) if draws else None for draws in drawing]


def draws(layer: Any) -> bool:
    """Whether a call of the layer needs `rngs` or `candidates`."""
    return getattr(layer, 'draws_candidates', False)


def applied(layer: Any, x: Array, candidates: Indices | None, rngs: nnx.Rngs | None) -> Array:
    """The layer's output, with candidates where it draws them."""
    return layer(x, candidates=candidates, rngs=rngs) if draws(layer) else layer(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllTokens(Options):
    """Every token is a candidate.

    The three pools have the same methods and attributes:

    Attributes:
        draws: a call needs random numbers or indices.
        excludes_itself: a token that is a candidate is not compared with itself, because it is its own first
            neighbour already.
    """

    draws = False
    excludes_itself = False

    def check(self, grid: tuple[int, int], num_neighbors: int) -> None:
        """Raises a `UserError` if there are fewer tokens than candidates or candidates than neighbours."""
        tokens = math.prod(grid)
        check_enough(num_neighbors, tokens, f'the {tokens} tokens', 'lower it')

    def indices(
        self, grid: tuple[int, int], given: Indices | None, rngs: nnx.Rngs | None
    ) -> Int[Array, ' candidates'] | None:
        """The candidates among the tokens of `grid`; None: all of them. `given` replaces a random draw.

        Raises:
            UserError: indices given to a pool that is not random, or not as many as it has.
        """
        check_none_given(given)
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomTokens(AllTokens):
    """N tokens, drawn anew at every call."""

    draws = True
    excludes_itself = True
    num_candidates: int = option(64, 'tokens that neighbours are chosen from', at_least=1)

    def check(self, grid: tuple[int, int], num_neighbors: int) -> None:
        _room(self.num_candidates, grid, math.prod(grid))
        check_enough(num_neighbors, self.num_candidates, f'{self.num_candidates} candidates', _MORE)

    def indices(
        self, grid: tuple[int, int], given: Indices | None, rngs: nnx.Rngs | None
    ) -> Int[Array, ' candidates']:
        if given is None:
            return draw(math.prod(grid), self.num_candidates, rngs)
        return check_given(given, self.num_candidates)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridTokens(AllTokens):
    """N tokens on a square grid. A token of the grid is compared with itself too, and so appears twice."""

    num_candidates: int = option(64, 'tokens on the grid, a square number', at_least=1)

    def check(self, grid: tuple[int, int], num_neighbors: int) -> None:
        side = math.isqrt(self.num_candidates)
        if side * side != self.num_candidates:
            raise UserError(
                f'model.num_candidates: expected a square number for a grid, got {self.num_candidates}; '
                f'try {side**2} or {(side + 1) ** 2}'
            )
        _room(self.num_candidates, grid, min(grid) ** 2)
        # One more: the token itself is the first neighbour, and may be chosen from the grid again.
        check_enough(num_neighbors, self.num_candidates + 1, f'{self.num_candidates} candidates', _MORE)

    def indices(
        self, grid: tuple[int, int], given: Indices | None, rngs: nnx.Rngs | None
    ) -> Int[Array, ' candidates']:
        check_none_given(given)
        return jnp.asarray(spatial_grid(grid, self.num_candidates))


def check_given(given: Indices, count: int) -> Int[Array, ' candidates']:
    """The given indices; a `UserError` unless there are `count`."""
    if given.shape != (count,):
        raise UserError(
            f'candidates: expected [{count}] indices for this layer, got shape {list(given.shape)}'
        )
    return jnp.asarray(given)


def check_none_given(given: Indices | None) -> None:
    """Raises a `UserError` if indices are given to a layer that draws none."""
    if given is not None:
        raise UserError(
            f'candidates: expected none for this layer: its candidates are not random, '
            f'got shape {list(given.shape)}'
        )


def _room(num_candidates: int, grid: tuple[int, int], most: int) -> None:
    if num_candidates > most:
        raise UserError(
            f'model.num_candidates: expected 1 to {most} of the {grid[0]} x {grid[1]} tokens, '
            f'got {num_candidates}; lower it or use larger images'
        )


def check_enough(num_neighbors: int, most: int, among: str, advice: str) -> None:
    """Raises a `UserError` if K is above `most`."""
    if num_neighbors > most:
        raise UserError(
            f'model.num_neighbors: expected 1 to {most} among {among}, got {num_neighbors}; {advice}'
        )
