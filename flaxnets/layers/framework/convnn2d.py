"""ConvNN in the place of a 2-D convolution (Kang and Farias, arXiv 2511.14137).

A convolution mixes a position with the K around it. This layer mixes it with the K nearest to it, and what
*near* means is an option:

    d_t = p_t                                        position alone: the K nearest are the square around t,
                                                     taken in raster order: the layer is a convolution
    d_t = [λ x_t / (σ + 1e-6), (1 - λ) p_t]          both, σ the deviation of an image's features
    d_t = x_t                                        features alone: what looks alike, wherever it is

    n_1, ..., n_K = the K tokens with the largest similarity(d_t, d_n), t itself the first
    y_t = bias + Σ_j v_{n_j} · kernel_j              v_n = x_n, or [x_n, p_n] with aggregation='both'

    image -> unshuffle by s -> border of p zeros -> tokens x_t, positions p_t -> y -> shuffle by s -> image

The border's tokens are candidates and have no neighbours. Positions are x and y from -1 to 1, over the map
with its border. The choice has no gradient. Kept for the backward pass are the tokens and which were chosen,
[K, B, T] indices: what is gathered is gathered again.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float, Int

from flaxnets.layers import init
from flaxnets.layers.candidates import Indices
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.gather import add_products, rows
from flaxnets.layers.init import Types
from flaxnets.layers.product import product
from flaxnets.layers.selection import most_similar
from flaxnets.layers.similarity import SIMILARITIES

Tokens = Float[Array, 'batch tokens features']
Image = Float[Array, 'batch height width channels']


class ConvNN2d(nnx.Module):
    """The layer of this file, `[B, H, W, C_in] -> [B, H, W, C_out]`.

    Raises:
        UserError: what `ConvNN2dOptions.map` and `sample` refuse.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        options: ConvNN2dOptions,
        **types: Unpack[Types],
    ):
        self.options = options
        self.map = options.map(image_size)
        self.sample = options.sample(self.map)
        self.dtype = types.get('dtype')
        block = options.shuffle_scale**2
        going_in = in_features * block + 2 * (options.aggregation == 'both')
        uniform = init.uniform(going_in * options.num_neighbors)
        self.kernel = init.parameter(
            (options.num_neighbors, going_in, out_features * block), uniform, **types
        )
        self.bias = init.parameter((out_features * block,), uniform, **types)

    @property
    def draws_candidates(self) -> bool:
        """Whether a call needs `rngs` or `candidates`."""
        return self.sample.drawn > 0

    @property
    def raster(self) -> bool:
        """Whether neighbours depend on the position alone, and stand in raster order."""
        return self.options.similarity_of == 'position' and self.sample.is_all

    def __call__(
        self, x: Image, *, candidates: Indices | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch height width out']:
        """`candidates` [N] replaces a random draw; without it they come from `rngs.candidates()`."""
        tokens = self.map.split(x)
        pool = self.sample.indices(candidates, rngs)
        chosen = self.choose(tokens, pool)
        values, row = self._values(tokens)
        values, kernel, bias = promote_dtype((values, self.kernel[...], self.bias[...]), dtype=self.dtype)
        own = values[:, row[self.map.real]]
        if pool is None:
            chosen = jnp.asarray(row)[chosen]
        else:
            values = values[:, jnp.asarray(row)[pool]]
        if self.raster:
            first, chosen = rows(product(values, kernel[0]), chosen[0]), chosen[1:]
        else:
            first = product(own, kernel[0])
        y = add_products(first, values, kernel[1:], chosen, None) + bias
        return self.map.join(y)

    def choose(
        self, tokens: Tokens, pool: Int[Array, ' candidates'] | None
    ) -> Int[Array, 'ranks batch tokens']:
        """Places among the candidates of each token's neighbours, the nearest first, itself left out; by
        position among all: the neighbours in raster order, itself among them."""
        options, there = self.options, self.map
        if self.raster:
            found = there.nearest(options.num_neighbors, options.similarity)
            return jnp.broadcast_to(jnp.asarray(found)[:, None], (len(found), *tokens.shape[:2]))
        # Stopped here, nothing that leads to a choice is differentiated.
        compared = jax.lax.stop_gradient(self._compared(tokens))
        keys = compared[:, there.real]
        queries = compared if pool is None else compared[:, pool]
        barred = jnp.asarray(there.home) if pool is None else jnp.asarray(there.home)[pool]
        similarity = SIMILARITIES[options.similarity]
        ranks = most_similar(similarity, keys, queries, options.num_neighbors - 1, pool=barred)
        return jnp.broadcast_to(ranks, (len(ranks), *tokens.shape[:2]))

    def _compared(self, tokens: Tokens) -> Float[Array, 'images all compared']:
        """d of every token, in float32 at least; positions alone are the same for all images."""
        options = self.options
        exact = jnp.promote_types(tokens.dtype, jnp.float32)
        if options.similarity_of == 'position':
            return jnp.asarray(self.map.positions, exact)[None]
        tokens = self.map.surround(tokens.astype(exact))
        if options.similarity_of == 'features':
            return tokens
        deviation = jnp.std(tokens, (1, 2), ddof=1, keepdims=True)
        scaled = self.map.locate(tokens / (deviation + 1e-6))
        share = np.full(scaled.shape[-1], options.blend)
        share[-2:] = 1 - options.blend
        return scaled * jnp.asarray(share, exact)

    def _values(self, tokens: Tokens) -> tuple[Float[Array, 'batch rows gathered'], Int[np.ndarray, ' all']]:
        """What is gathered, and in which of its rows each token of the map is."""
        if self.options.aggregation == 'both':
            return self.map.locate(self.map.surround(tokens)), np.arange(self.map.tokens)
        # One row of zeros stands for the whole border.
        return jnp.pad(tokens, ((0, 0), (0, int(self.map.border > 0)), (0, 0))), self.map.home
