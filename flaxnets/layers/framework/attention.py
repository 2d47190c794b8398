"""Multi-head self-attention as the framework's ViT has it (Vaswani et al., 2017).

    y_t = Σ_n dropout(softmax_n(q_t · k_n / sqrt(e))) v_n        then a linear layer over all heads

q, k, v and the last layer are bias-free. With dropout, the weights are computed again for the backward pass.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.attend import attend, weights
from flaxnets.layers.depth import kept
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.framework.token_options import TokenLayerOptions
from flaxnets.layers.init import Types

Tokens = Float[Array, 'batch tokens width']
Heads = Float[Array, 'batch heads tokens features']


class Attention(nnx.Module):
    """The layer of this file, `[B, T, width] -> [B, T, width]`.

    Raises:
        UserError: heads that do not divide the width.
    """

    draws_candidates = False

    def __init__(self, width: int, tokens: int, options: TokenLayerOptions, **types: Unpack[Types]):
        options.channels(width)
        self.heads = options.heads
        self.query, self.key, self.value, self.out = (
            init.linear(width, width, use_bias=False, **types) for _ in range(4)
        )
        self.dropout = Dropout(options.dropout)

    def __call__(self, x: Tokens, *, rngs: nnx.Rngs | None = None) -> Tokens:
        batch, tokens, width = x.shape
        heads = (batch, tokens, self.heads, width // self.heads)
        linear = (self.query, self.key, self.value)
        q, k, v = (kept(part(x).reshape(heads).swapaxes(1, 2)) for part in linear)
        key = self.dropout.key(rngs)
        y = self.attend(q, k, v) if key is None else self._dropped(q, k, v, key)
        return self.out(kept(y.swapaxes(1, 2).reshape(x.shape)))

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """What every token gathers, for each head: `[B, heads, T, e]`."""
        return attend(q, k, v)

    def _dropped(self, q: Array, k: Array, v: Array, key: Array) -> Array:
        def dropped(q, k, v):
            rest = self.dropout.drop(weights(q, k), key).astype(v.dtype)
            return jnp.einsum('...qk,...ke->...qe', rest, v)

        return jax.checkpoint(dropped)(q, k, v)
