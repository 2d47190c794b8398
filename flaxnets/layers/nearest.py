"""Convolution over nearest neighbours (ConvNN; document 000).

A convolution combines every position with the positions around it. This layer combines every position
with the positions most *similar* to it, anywhere in the image. Positions are tokens: a 32 x 32
image is unshuffled to 16 x 16 of them, each with the channels of a 2 x 2 block (`tokens.py`). For
each token t, with features x_t:

    s(t, n) = similarity(k_t, q_n)                 for each candidate n
    n_1, ..., n_K                                  the K most similar candidates, nearest first
    y_t = bias + Σ_j v_{n_j} · kernel_j            one matrix for each rank: the nearest neighbour has
                                                   another one than the second nearest

    image [B, H, W, C_in] -> tokens [B, T, F] -> s [B, T, N] -> ranks [K, B, T] -> y [B, T, F'] -> image

If the K neighbours of each token are written one after the other, a convolution of width and stride K over
them computes the same: hence the name, and the kernel's shape [K, F, F'].

*Queries, keys, values.* Without a projection q = k = v = the tokens. With `projection='qkv'` each is a
bias-free linear layer *across the T tokens*, q_n = Σ_t W_q[t, n] x_t: a token becomes a combination of all
tokens, and features are not mixed. With 'value' only v is projected. With either, similarity is max(0, s).

*Candidates* (`candidates.py`), N of the T tokens, the same for all images of the batch:

    all       every token, t among them: where q = k, it is its own nearest
    random    N tokens drawn at each call; neighbours are t itself, then the K - 1 most similar
              candidates other than t
    grid      N tokens on a square grid over the map; neighbours are t itself, then the K - 1 most
              similar candidates. A token of the grid is compared with itself too, and so appears twice

*What is trained.* q and k decide only *which* tokens are gathered. Indices have no gradient, so W_q and
W_k keep their initial values: the published layer trains W_v and its kernel, and its neighbours are
those of random projections. `soft=True` is ours, off by default: neighbour j
is weighted by softmax_j s(t, n_j), and through these weights W_q and W_k get gradients.

*Precision.* When two nearly equal similarities are rounded, two neighbours may be exchanged, which changes
the output visibly. So similarities are computed in float32 at least, with products of the highest precision,
whatever the layer's dtype (TF32 on a GPU and bfloat16 on a TPU are not enough).
"""

import dataclasses
import math
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float, Int

from flaxnets.layers import init
from flaxnets.layers.candidates import AllTokens, Indices
from flaxnets.layers.gather import add_products, rows
from flaxnets.layers.init import Types
from flaxnets.layers.product import across, product
from flaxnets.layers.selection import most_similar
from flaxnets.layers.similarity import cosine, euclidean
from flaxnets.layers.tokens import ImageTokens, TokenOptions
from flaxnets.options import option


class AcrossTokens(nnx.Module):
    """A bias-free linear layer across tokens: y_s = Σ_t x_t · kernel[t, s]."""

    def __init__(self, tokens: int, **types: Unpack[Types]):
        self.kernel = init.parameter((tokens, tokens), init.uniform(tokens), **types)
        self.dtype = types.get('dtype')

    def __call__(
        self,
        x: Float[Array, 'batch tokens features'],
        *,
        only: Int[Array, ' out'] | None = None,
        exact: bool = False,
    ) -> Float[Array, 'batch out features']:
        """The tokens `only`, in their order, or all of them; `exact`: in float32 at least, whatever the
        layer computes in, and at the highest precision."""
        kernel = self.kernel[...] if only is None else self.kernel[:, only]
        x, kernel = promote_dtype((x, kernel), dtype=None if exact else self.dtype)
        return across(x, kernel, jax.lax.Precision.HIGHEST if exact else None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearestOptions(TokenOptions):
    """Options of the ConvNN layer."""

    num_neighbors: int = option(9, 'K, the token itself included', at_least=1)
    similarity: str = option(
        'cosine', 'of two tokens; euclidean: the smaller the distance', choices=('cosine', 'euclidean')
    )
    projection: str = option('none', 'what is projected across tokens', choices=('none', 'value', 'qkv'))
    soft: bool = option(False, 'weight neighbours by the softmax of their similarities')
    pool: AllTokens = dataclasses.field(default_factory=AllTokens)


class NearestLayer(nnx.Module):
    """Convolution over each token's K nearest neighbours, `[B, H, W, C_in] -> [B, H, W, C_out]`.

    Args:
        image_size: height and width.

    Raises:
        UserError: fewer candidates than neighbours, fewer tokens than candidates, odd sizes.
    """

    query: AcrossTokens  # query and key: with the projection 'qkv' only
    key: AcrossTokens
    value: AcrossTokens  # with the projections 'qkv' and 'value'

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        options: NearestOptions,
        **types: Unpack[Types],
    ):
        self.image = ImageTokens(in_features, out_features, image_size, options, **types)
        options.pool.check(self.image.grid, options.num_neighbors)
        self.options = options
        self.dtype = types.get('dtype')
        going_in, coming_out = self.image.features
        uniform = init.uniform(going_in * options.num_neighbors)
        shape = (options.num_neighbors, going_in, coming_out)
        self.kernel = init.parameter(shape, uniform, **types)
        self.bias = init.parameter((coming_out,), uniform, **types)
        for name in {'none': [], 'value': ['value'], 'qkv': ['query', 'key', 'value']}[options.projection]:
            setattr(self, name, AcrossTokens(math.prod(self.image.grid), **types))

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """The parts that no gradient reaches; weight decay does not change them either, as in PyTorch."""
        return ('query', 'key') if self.options.projection == 'qkv' and not self.options.soft else ()

    @property
    def draws_candidates(self) -> bool:
        """Whether a call needs `rngs` or `candidates`."""
        return self.options.pool.draws

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the image coming out."""
        return self.image.out_size

    def __call__(
        self,
        x: Float[Array, 'batch height width channels'],
        *,
        candidates: Indices | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, 'batch rows columns out']:
        """`candidates` [N] replaces a random pool's draw; without it they come from `rngs.candidates()`."""
        tokens = self.image.split(x)
        pool = self.options.pool.indices(self.image.grid, candidates, rngs)
        chosen = self.choose(tokens, pool)
        weights = self._weights(tokens, pool, chosen) if self.options.soft else None
        values = tokens if self.options.projection == 'none' else self.value(tokens)
        values, kernel, bias = promote_dtype((values, self.kernel[...], self.bias[...]), dtype=self.dtype)
        if pool is None:
            first = jnp.broadcast_to(bias, (*values.shape[:2], len(bias)))
            return self.image.join(add_products(first, values, kernel, chosen, weights))
        # Rank 0 is the token itself, and nothing is gathered for it.
        first = product(values, kernel[0])
        if weights is not None:
            first, weights = weights[0, :, :, None].astype(first.dtype) * first, weights[1:]
        return self.image.join(add_products(first + bias, values[:, pool], kernel[1:], chosen, weights))

    def choose(
        self, tokens: Float[Array, 'batch tokens features'], pool: Int[Array, ' candidates'] | None
    ) -> Int[Array, 'ranks batch tokens']:
        """Positions in the pool of each token's most similar candidates, nearest first: K of them
        where all tokens are candidates, else K - 1, the token itself being its first neighbour."""
        # Positions have no gradient; with it stopped here, what leads to them is not differentiated.
        keys, queries = jax.lax.stop_gradient(self._keys_and_queries(tokens, pool))
        count = self.options.num_neighbors - (pool is not None)
        excluded = pool if self.options.pool.excludes_itself else None
        return most_similar(self._similarity, keys, queries, count, pool=excluded)

    def _keys_and_queries(self, tokens: Array, only: Array | None) -> tuple[Array, Array]:
        """k of every token and q of the tokens `only` (None: all), in float32 at least."""
        tokens = tokens.astype(jnp.promote_types(tokens.dtype, jnp.float32))
        if self.options.projection != 'qkv':
            return tokens, tokens if only is None else tokens[:, only]
        return self.key(tokens, exact=True), self.query(tokens, only=only, exact=True)

    def _similarity(self, keys: Array, queries: Array) -> Array:
        if self.options.similarity == 'euclidean':
            return euclidean(keys, queries)
        scores = cosine(keys, queries)
        return scores if self.options.projection == 'none' else jnp.maximum(scores, 0)

    def _weights(
        self, tokens: Array, pool: Array | None, chosen: Array
    ) -> Float[Array, 'ranks batch tokens']:
        """softmax_j s(t, n_j), this time with gradients to q and k."""
        keys, queries = self._keys_and_queries(tokens, None)
        neighbours = chosen
        if pool is not None:
            itself = jnp.broadcast_to(jnp.arange(tokens.shape[1]), (1, *chosen.shape[1:]))
            neighbours = jnp.concatenate([itself, pool[chosen]])
        gathered = rows(queries, jnp.moveaxis(neighbours, 0, -1))
        scores = self._similarity(keys[:, :, None], gathered)[:, :, 0]
        return jnp.moveaxis(jax.nn.softmax(scores), -1, 0)
