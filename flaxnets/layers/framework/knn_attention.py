"""k-NN attention (Wang et al., "KVT: k-NN Attention for Boosting Vision Transformers", 2022).

    y_t = Σ_j softmax_j(q_t · k_{n_j} / sqrt(e)) v_{n_j}        over the K keys with the largest products

Attention whose other weights are 0, which is computed here as what it is: a sum over the K that are left.
"""

import math
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float, Int

from flaxnets.layers import init
from flaxnets.layers.depth import kept
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.framework.sampling import Sample
from flaxnets.layers.framework.scores import chosen_scores
from flaxnets.layers.framework.token_options import TokenLayerOptions, into_heads, out_of_heads
from flaxnets.layers.gather import add_products
from flaxnets.layers.init import Types
from flaxnets.layers.selection import most_similar
from flaxnets.layers.similarity import dot

Tokens = Float[Array, 'batch tokens features']


class KNNAttention(nnx.Module):
    """The layer of this file, `[B, T, width] -> [B, T, width]`; its linear layers are bias-free.

    Raises:
        UserError: heads that do not divide the width, fewer tokens than neighbours.
    """

    draws_candidates = False

    def __init__(self, width: int, tokens: int, options: TokenLayerOptions, **types: Unpack[Types]):
        options.channels(width)
        self.heads, self.num_neighbors = options.heads, options.num_neighbors
        Sample(tokens).check(options.num_neighbors, f'{tokens} tokens')
        self.qkv = init.linear(width, 3 * width, use_bias=False, **types)
        self.out = init.linear(width, width, use_bias=False, **types)
        self.dropout = Dropout(options.dropout)
        self.dtype = types.get('dtype')

    def __call__(self, x: Tokens, *, rngs: nnx.Rngs | None = None) -> Tokens:
        q, k, v = (into_heads(part, self.heads) for part in jnp.split(kept(self.qkv(x)), 3, axis=-1))
        exact = jnp.promote_types(x.dtype, jnp.float32)
        q, k = q.astype(exact) / math.sqrt(q.shape[-1]), k.astype(exact)
        chosen = kept(self.choose(q, k))
        weights = self._dropped(jax.nn.softmax(chosen_scores('matmul', q, k, chosen), axis=0), rngs)
        v, weights = promote_dtype((v, weights), dtype=self.dtype)
        ones = jnp.ones((self.num_neighbors, v.shape[-1]), v.dtype)
        y = add_products(jnp.zeros_like(v), v, ones, chosen, weights)
        return self.out(kept(out_of_heads(y, self.heads)))

    def choose(self, queries: Tokens, keys: Tokens) -> Int[Array, 'ranks batch tokens']:
        """Each token's best keys, head by head."""
        queries, keys = jax.lax.stop_gradient((queries, keys))
        return most_similar(dot, queries, keys, self.num_neighbors)

    def _dropped(
        self, weights: Float[Array, 'ranks images tokens'], rngs: nnx.Rngs | None
    ) -> Float[Array, 'ranks images tokens']:
        """Dropout draws for images, whose heads stand one after the other here."""
        ranks, images, tokens = weights.shape
        by_image = weights.reshape(ranks, images // self.heads, self.heads, tokens).swapaxes(0, 1)
        return self.dropout(by_image, rngs=rngs).swapaxes(0, 1).reshape(weights.shape)
