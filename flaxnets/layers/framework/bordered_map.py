"""The tokens of a map with a border of zeros: which of them are real, and where each one is."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flaxnets.layers.pixel_shuffle import pixel_shuffle, pixel_unshuffle

Indices = Int[np.ndarray, ' count']
Tokens = Float[Array, 'batch tokens features']


@dataclasses.dataclass(frozen=True)
class BorderedMap:
    """`rows` x `columns` real tokens in a border of zeros, numbered row by row.

    Every token is a candidate, the border's among them; only the real ones have neighbours. A token is a
    pixel, or a block of `scale` x `scale`.
    """

    rows: int
    columns: int
    border: int = 0
    scale: int = 1

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns, the border's among them."""
        return self.rows + 2 * self.border, self.columns + 2 * self.border

    @property
    def tokens(self) -> int:
        """How many tokens there are, the border's among them."""
        return math.prod(self.sides)

    @functools.cached_property
    def real(self) -> Indices:
        """The real tokens' numbers."""
        inside = slice(self.border, self.border + self.rows), slice(self.border, self.border + self.columns)
        return np.arange(self.tokens).reshape(self.sides)[inside].ravel()

    @functools.cached_property
    def home(self) -> Indices:
        """Each token's place among the real ones; for the border's, one after the last."""
        home = np.full(self.tokens, len(self.real))
        home[self.real] = np.arange(len(self.real))
        return home

    @functools.cached_property
    def positions(self) -> Float[np.ndarray, 'tokens 2']:
        """Each token's x and y, from -1 to 1 between the outermost tokens."""
        y, x = (mirrored(side) for side in self.sides)
        return np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=-1)

    def grid(self, side: int) -> Indices:
        """`side` x `side` of the real tokens, evenly from edge to edge; fractions are cut, not rounded."""
        y, x = (evenly(size, side) for size in (self.rows, self.columns))
        return self.real.reshape(self.rows, self.columns)[y][:, x].ravel()

    def nearest(self, count: int, similarity: str) -> Int[np.ndarray, 'ranks real']:
        """The `count` tokens nearest in position to each real one, itself among them, in raster order."""
        own, others = self.positions[self.real][:, None], self.positions[None]
        if similarity == 'cosine':
            unit = self.positions / np.maximum(np.linalg.norm(self.positions, axis=-1, keepdims=True), 1e-12)
            scores = np.clip((unit[self.real][:, None] * unit).sum(-1), -1, 1)
        else:
            scores = -np.square(own - others).sum(-1)
        scores[np.arange(len(self.real)), self.real] = np.inf
        return np.sort(np.argsort(-scores, axis=1, kind='stable')[:, :count], axis=1).T

    def split(self, image: Float[Array, 'batch height width channels']) -> Tokens:
        """The real tokens of an image."""
        tokens = pixel_unshuffle(image, self.scale)
        return tokens.reshape(len(tokens), -1, tokens.shape[-1])

    def join(self, tokens: Tokens) -> Float[Array, 'batch height width channels']:
        """The image that real tokens make up."""
        return pixel_shuffle(tokens.reshape(len(tokens), self.rows, self.columns, -1), self.scale)

    def surround(self, tokens: Tokens) -> Float[Array, 'batch all features']:
        """The real tokens and the border's zeros."""
        image = tokens.reshape(len(tokens), self.rows, self.columns, -1)
        sides = ((self.border, self.border),) * 2
        return jnp.pad(image, ((0, 0), *sides, (0, 0))).reshape(len(tokens), self.tokens, -1)

    def locate(self, tokens: Tokens) -> Float[Array, 'batch tokens more']:
        """Each token's position after its features."""
        positions = jnp.asarray(self.positions, tokens.dtype)
        return jnp.concatenate([tokens, jnp.broadcast_to(positions, (len(tokens), *positions.shape))], -1)


def mirrored(count: int) -> Float[np.ndarray, ' count']:
    """`count` numbers from -1 to 1, as far apart; each half from its own end, as in PyTorch, so that rounding
    is the same on both sides."""
    rise = -1 + 2 / max(count - 1, 1) * np.arange(count)
    return np.where(np.arange(count) < count // 2, rise, -rise[::-1])


def evenly(size: int, count: int) -> Indices:
    """`count` of the numbers below `size`, from the first to the last; fractions are cut."""
    return np.arange(count) * (size - 1) // max(count - 1, 1)
