"""ConvNN for images with weights on the neighbours (Kang and Farias, arXiv 2511.14137).

    q, k, v = x W_q, x W_k, x W_v                    bias-free, across channels
    n_1, ..., n_K = the K tokens with the largest s(k_t, q_n), t itself the first
    a_t = softmax_j s_tj                             s of t with itself is a constant above all others
    y_t = ((Σ_j a_tj v_{n_j} ⊙ d_j + b) W + c) W_o   d_j one factor per channel, initially 1

The options are those of `convnn2d.py`, with all tokens as candidates and features compared;
aggregation='both' appends each token's position to its features before they are mapped. Here q and k have
gradients, through the weights a.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float, Int

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.framework.scores import chosen_scores
from flaxnets.layers.gather import add_products
from flaxnets.layers.init import Types
from flaxnets.layers.selection import most_similar
from flaxnets.layers.similarity import SIMILARITIES

# A token's similarity with itself: above every cosine, and above every negated squared distance.
ITSELF = {'cosine': 1.1, 'euclidean': 0.1}


class ConvNN2dAttn(nnx.Module):
    """The layer of this file, `[B, H, W, C_in] -> [B, H, W, C_out]`.

    Raises:
        UserError: sampled candidates or compared positions, and what `ConvNN2dOptions.map` refuses.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        options: ConvNN2dOptions,
        **types: Unpack[Types],
    ):
        for name, only in (('sampling', 'all'), ('similarity_of', 'features')):
            if getattr(options, name) != only:
                raise UserError(
                    f'model.{name}: expected {only!r} in this layer, which maps features, '
                    f'got {getattr(options, name)!r}'
                )
        self.options = options
        self.map = options.map(image_size)
        options.sample(self.map)
        block = options.shuffle_scale**2
        inner, out = in_features * block + 2 * (options.aggregation == 'both'), out_features * block
        self.query, self.key, self.value = (
            init.linear(inner, inner, use_bias=False, **types) for _ in range(3)
        )
        self.depthwise = init.parameter((options.num_neighbors, inner), jax.nn.initializers.ones, **types)
        self.bias = init.parameter((inner,), init.uniform(options.num_neighbors), **types)
        self.pointwise = init.linear(inner, out, **types)
        self.out = init.linear(out, out, use_bias=False, **types)
        self.dtype = types.get('dtype')

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width out']:
        tokens = self.map.surround(self.map.split(x))
        if self.options.aggregation == 'both':
            tokens = self.map.locate(tokens)
        exact = jnp.promote_types(tokens.dtype, jnp.float32)
        keys = self.key(tokens[:, self.map.real]).astype(exact)
        queries = self.query(tokens).astype(exact)
        chosen = self.choose(keys, queries)
        scores = chosen_scores(self.options.similarity, keys, queries, chosen)
        itself = jnp.full((1, *scores.shape[1:]), ITSELF[self.options.similarity], scores.dtype)
        weights = jax.nn.softmax(jnp.concatenate([itself, scores]), axis=0)
        arrays = self.value(tokens), self.depthwise[...], self.bias[...], weights
        values, factors, bias, weights = promote_dtype(arrays, dtype=self.dtype)
        first = weights[0, :, :, None] * (values[:, self.map.real] * factors[0])
        y = add_products(first, values, factors[1:], chosen, weights[1:]) + bias
        return self.map.join(self.out(self.pointwise(y)))

    def choose(
        self, keys: Float[Array, 'batch real features'], queries: Float[Array, 'batch tokens features']
    ) -> Int[Array, 'ranks batch real']:
        """Each real token's neighbours by their number among all, the nearest first, itself left out."""
        keys, queries = jax.lax.stop_gradient((keys, queries))
        similarity = SIMILARITIES[self.options.similarity]
        others = self.options.num_neighbors - 1
        return most_similar(similarity, keys, queries, others, pool=jnp.asarray(self.map.home))
