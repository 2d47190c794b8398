"""ConvNN in the place of attention (Kang and Farias, arXiv 2511.14137).

Attention sums over all tokens. Here each token takes its K best, and a convolution over these, the best
first, has a factor (or matrix) for each rank. For each head, with e channels:

    s_tn = k_t · q_n / sqrt(e), their cosine, or -|k_t - q_n|
    n_1, ..., n_K = the K largest
    a_t = softmax_j s_tj                             or the scores themselves, without `softmax`
    y_t = Σ_j a_tj v_{n_j} · kernel_j                shared by the heads

    depthwise              kernel_j is one factor per channel, initially 1
    standard               a matrix
    depthwise-separable    one factor per channel, and one matrix after the sum

With random or evenly spread candidates t itself comes first with score 1; where t is a candidate too, its
score is -0.1 there (its distance 1.1), so that it rarely comes again.

*Oversight.* The published code puts the heads together as if their sums lay channel by channel, when they lie
token by token: what token t gathered arrives at others. Its weights and figures need that, so it is the
default; `oversight=False` does what is meant.
"""

import math
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float, Int

from flaxnets.layers import init
from flaxnets.layers.candidates import Indices
from flaxnets.layers.depth import kept
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.framework.scores import chosen_scores
from flaxnets.layers.framework.token_options import TokenLayerOptions, into_heads, joined_heads
from flaxnets.layers.gather import add_products
from flaxnets.layers.init import Types
from flaxnets.layers.product import product
from flaxnets.layers.selection import most_similar
from flaxnets.layers.similarity import SIMILARITIES

Tokens = Float[Array, 'batch tokens features']
# The score of a token with itself, where it is a candidate too; for `euclidean`, minus the square of 1.1.
AGAIN = {'matmul': -0.1, 'cosine': -0.1, 'euclidean': -(1.1**2)}
SMALLEST = 1e-24  # of a squared distance, whose root has no derivative at 0


class ConvNNAttention(nnx.Module):
    """The layer of this file, `[B, T, width] -> [B, T, width]`.

    Raises:
        UserError: heads that do not divide the width, fewer candidates than neighbours.
    """

    def __init__(self, width: int, tokens: int, options: TokenLayerOptions, **types: Unpack[Types]):
        channels = options.channels(width)
        self.options = options
        self.sample = options.sample(tokens)
        self.dtype = types.get('dtype')
        self.query, self.key, self.value, self.out = (
            init.linear(width, width, use_bias=False, **types) for _ in range(4)
        )
        neighbours, going_in = options.num_neighbors, channels + options.coordinates
        if options.convolution == 'standard':
            uniform = init.uniform(neighbours * going_in)
            self.kernel = init.parameter((neighbours, going_in, channels), uniform, **types)
        else:
            self.kernel = init.parameter((neighbours, channels), jax.nn.initializers.ones, **types)
        separable = options.convolution == 'depthwise-separable'
        self.pointwise = init.linear(channels, channels, use_bias=False, **types) if separable else None
        self.dropout = Dropout(options.dropout)

    @property
    def draws_candidates(self) -> bool:
        """Whether a call needs `candidates` or `rngs.candidates`."""
        return self.sample.drawn > 0

    def __call__(
        self, x: Tokens, *, candidates: Indices | None = None, rngs: nnx.Rngs | None = None
    ) -> Tokens:
        """`candidates` [N] replaces a random draw; without it they come from `rngs.candidates()`."""
        pool = self.sample.indices(candidates, rngs)
        q, k, v = (kept(self._heads(part(x))) for part in (self.query, self.key, self.value))
        exact = jnp.promote_types(x.dtype, jnp.float32)
        k, q = k.astype(exact), q.astype(exact)
        if self.options.similarity == 'matmul':
            k = k / math.sqrt(x.shape[-1] // self.options.heads)  # the place, if there is one, not counted
        if pool is not None:
            q, own, v = q[:, pool], v, v[:, pool]
        chosen = kept(self.choose(k, q, pool))
        weights = self._weights(k, q, chosen, pool)
        v, kernel, weights = promote_dtype((v, self.kernel[...], weights), dtype=self.dtype)
        first = jnp.zeros((*v.shape[:1], k.shape[1], kernel.shape[-1]), v.dtype)
        if pool is not None:
            itself = product(own, kernel[0]) if kernel.ndim == 3 else own * kernel[0]
            first, kernel, weights = weights[0, ..., None] * itself, kernel[1:], weights[1:]
        y = add_products(first, v, kernel, chosen, weights)
        y = y if self.pointwise is None else self.pointwise(y)
        return self.out(kept(self.dropout(joined_heads(y, self.options), rngs=rngs)))

    def choose(
        self,
        keys: Tokens,
        queries: Float[Array, 'batch candidates features'],
        pool: Int[Array, ' candidates'] | None,
    ) -> Int[Array, 'ranks batch tokens']:
        """Places among the candidates of each token's best, head by head; with a pool K - 1, the token
        itself being its first neighbour."""
        keys, queries = jax.lax.stop_gradient((keys, queries))
        name, count = self.options.similarity, self.options.num_neighbors
        if pool is None:
            return most_similar(SIMILARITIES[name], keys, queries, count)
        return most_similar(SIMILARITIES[name], keys, queries, count - 1, pool=pool, own=AGAIN[name])

    def _heads(self, x: Tokens) -> Float[Array, 'images tokens channels']:
        x = into_heads(x, self.options.heads)
        if not self.options.coordinates:
            return x
        place = jnp.linspace(-1, 1, x.shape[1], dtype=x.dtype)[:, None]
        return jnp.concatenate([x, jnp.broadcast_to(place, (*x.shape[:2], 1))], axis=-1)

    def _weights(
        self, keys: Array, queries: Array, chosen: Array, pool: Array | None
    ) -> Float[Array, 'ranks batch tokens']:
        """a, rank by rank: softmax of scores, or the scores; of distances, the inverse."""
        name = self.options.similarity
        scores = chosen_scores(name, keys, queries, chosen)
        if pool is not None:
            again = pool[chosen] == jnp.arange(keys.shape[1])
            scores = jnp.where(again, AGAIN[name], scores)
        distant = name == 'euclidean'
        if distant:
            scores = -jnp.sqrt(jnp.maximum(-scores, SMALLEST))
        if pool is not None:
            itself = jnp.full((1, *scores.shape[1:]), -1.0 if distant else 1.0, scores.dtype)
            scores = jnp.concatenate([itself, scores])
        if self.options.softmax:
            return jax.nn.softmax(scores, axis=0)
        return 1 / (1e-8 - scores) if distant else scores
