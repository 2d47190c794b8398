"""Which neighbours a layer chooses, and where in the image they are: what its `choose` returns."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxnets.layers.framework.convnn2d import ConvNN2d
from flaxnets.layers.framework.convnn2d_attn import ConvNN2dAttn
from flaxnets.layers.framework.convnn_attention import ConvNNAttention
from flaxnets.layers.framework.knn_attention import KNNAttention
from flaxnets.layers.nearest import NearestLayer
from train.reporting import watch
from train.reporting.tokens import grid_of

Numbers = Int[np.ndarray, 'batch tokens neighbours']
NOWHERE = -1  # the class token's number: it has no place in the image


@dataclasses.dataclass(frozen=True)
class Choice:
    """The neighbours of a layer's tokens, in order of similarity, the token itself first where it always is.

    Attributes:
        numbers: those of the neighbours, row by row over the grid and its border.
        grid: rows and columns of the tokens that have neighbours.
        border: how many tokens lie on each side of the grid.
    """

    numbers: Numbers
    grid: tuple[int, int]
    border: int = 0

    def places(self) -> tuple[Numbers, Numbers]:
        """Row and column of each neighbour in the grid; in the border they are below 0, or the grid's size
        and more."""
        across = self.grid[1] + 2 * self.border
        return self.numbers // across - self.border, self.numbers % across - self.border

    def nearby(self) -> float:
        """The share of the neighbours, the token itself left out, that lie in the 3 x 3 around their token,
        the field of a convolution."""
        own = np.arange(self.numbers.shape[1])[:, None]
        down, across = (
            np.abs(place - start)
            for place, start in zip(self.places(), divmod(own, self.grid[1]), strict=True)
        )
        others = ((down > 0) | (across > 0)) & (self.numbers != NOWHERE)
        return float(((down <= 1) & (across <= 1))[others].mean()) if others.any() else 0.0


def chosen(model: nnx.Module, images: Float[Array, 'batch height width channels']) -> list[Choice]:
    """The choices of every layer that has neighbours, in the order in which the model computes them."""
    shape = (images.shape[1], images.shape[2])
    return [
        read(layer, arguments, np.moveaxis(np.asarray(ranks), 0, -1), shape)
        for kind, read in KINDS.items()
        for layer, arguments, ranks in watch.calls(model, images, kind, 'choose')
    ]


def _of_nearest(layer: Any, arguments: Any, ranks: Numbers, shape: tuple[int, int]) -> Choice:
    return Choice(_with_itself(ranks, arguments[1], np.arange(ranks.shape[1])), layer.image.grid)


def _of_map(layer: Any, arguments: Any, ranks: Numbers, shape: tuple[int, int]) -> Choice:
    there = layer.map
    pool = arguments[1] if isinstance(layer, ConvNN2d) else None
    if not getattr(layer, 'raster', False):
        ranks = _with_itself(ranks, np.arange(there.tokens) if pool is None else pool, there.real)
    return Choice(ranks, (there.rows, there.columns), there.border)


def _of_tokens(layer: Any, arguments: Any, ranks: Numbers, shape: tuple[int, int]) -> Choice:
    """Of the first head; number 0 is the class token, whose own neighbours are left out."""
    heads = layer.heads if isinstance(layer, KNNAttention) else layer.options.heads
    pool = arguments[2] if isinstance(layer, ConvNNAttention) else None
    numbers = _with_itself(ranks[::heads], pool, np.arange(ranks.shape[1]))[:, 1:] - 1
    tokens = numbers.shape[1]
    return Choice(numbers, grid_of(tokens, shape) or (1, tokens))


def _with_itself(ranks: Numbers, pool: Any, own: Int[np.ndarray, ' tokens']) -> Numbers:
    """Numbers in place of places in a pool, and each token itself in front; without a pool, as it is."""
    if pool is None:
        return ranks
    itself = np.broadcast_to(own[:, None], (*ranks.shape[:2], 1))
    return np.concatenate([itself, np.asarray(pool)[ranks]], axis=-1)


KINDS: dict[type, Callable[[Any, Any, Numbers, tuple[int, int]], Choice]] = {
    NearestLayer: _of_nearest,
    ConvNN2d: _of_map,
    ConvNN2dAttn: _of_map,
    ConvNNAttention: _of_tokens,
    KNNAttention: _of_tokens,
}
