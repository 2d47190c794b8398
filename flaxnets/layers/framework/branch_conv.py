"""ConvNN beside a convolution along the tokens (Kang and Farias, arXiv 2511.14137).

    out = linear([ConvNNAttention(x_1); linear(Conv1d(linear(x_2)))])

A share of the input's channels, the ratio, rounded down, is x_1; the rest is x_2. The convolution has one
kernel, on the channels of a head, that all heads share.
"""

from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.candidates import Indices
from flaxnets.layers.depth import kept
from flaxnets.layers.framework.branching2d import share_of
from flaxnets.layers.framework.convnn_attention import ConvNNAttention
from flaxnets.layers.framework.token_options import TokenLayerOptions, into_heads, joined_heads
from flaxnets.layers.init import Types

Tokens = Float[Array, 'batch tokens features']


class HeadConv(nnx.Module):
    """Linear, a convolution along the tokens within each head, linear."""

    def __init__(self, width: int, options: TokenLayerOptions, **types: Unpack[Types]):
        channels, size = options.channels(width), options.kernel_size
        self.options = options
        self.embed, self.out = (init.linear(width, width, **types) for _ in range(2))
        uniform = init.uniform(channels * size)
        self.conv = nnx.Conv(
            channels, channels, (size,), kernel_init=uniform, bias_init=uniform, padding='SAME', **types
        )

    def __call__(self, x: Tokens) -> Tokens:
        embedded = kept(self.embed(x))
        return self.out(kept(joined_heads(self.conv(into_heads(embedded, self.options.heads)), self.options)))


class BranchConv(nnx.Module):
    """The layer of this file, `[B, T, width] -> [B, T, width]`.

    Raises:
        UserError: a ratio that `share_of` refuses, and what its branches refuse.
    """

    def __init__(self, width: int, tokens: int, options: TokenLayerOptions, **types: Unpack[Types]):
        share = self.share = share_of(width, options.ratio)
        self.nearest = ConvNNAttention(share, tokens, options, **types) if share else None
        self.conv = HeadConv(width - share, options, **types) if share < width else None
        self.mix = init.linear(width, width, **types)

    @property
    def draws_candidates(self) -> bool:
        """Whether a call needs `candidates` or `rngs.candidates`."""
        return self.nearest is not None and self.nearest.draws_candidates

    def __call__(
        self, x: Tokens, *, candidates: Indices | None = None, rngs: nnx.Rngs | None = None
    ) -> Tokens:
        branches = []
        if self.nearest is not None:
            branches.append(self.nearest(x[..., : self.share], candidates=candidates, rngs=rngs))
        if self.conv is not None:
            branches.append(self.conv(x[..., self.share :]))
        return self.mix(kept(jnp.concatenate(branches, axis=-1)))
