"""Self-attention over an image's tokens (Vaswani et al., 2017), as document 000 uses it.

Compared with the ConvNN layer (`nearest.py`), every token gathers from *all* tokens, with weights, where
ConvNN gathers K tokens and has a kernel matrix for each. On tokens x_t of F features
(`tokens.py`), with E the layer's inner width and h heads of e = E / h features:

    u = x · W + b                                    F -> E, a 1x1 convolution
    q, k, v = u · W_qkv + b_qkv                      E -> 3E, split into three and then into heads
    y_t = Σ_n softmax_n(q_t · k_n / sqrt(e)) v_n     for each head separately
    out = concatenated heads · W_o + b_o             E -> E
"""

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.attend import Heads, attend
from flaxnets.layers.init import Types
from flaxnets.layers.tokens import ImageTokens, TokenOptions
from flaxnets.options import option


class TokenAttention(nnx.Module):
    """Multi-head self-attention, `[B, T, E] -> [B, T, E]`, with `torch.nn.MultiheadAttention`'s
    initial values: Xavier uniform for the stacked projection, zero biases.

    Raises:
        UserError: heads that do not divide the features.
    """

    def __init__(
        self,
        features: int,
        num_heads: int = 1,
        **types: Unpack[Types],
    ):
        if num_heads < 1 or features % num_heads:
            raise UserError(
                f'model.num_heads: expected a divisor of the {features} features of a token, got {num_heads}'
            )
        self.num_heads = num_heads
        zeros, xavier = jax.nn.initializers.zeros, jax.nn.initializers.xavier_uniform()
        self.qkv = init.linear(features, 3 * features, kernel_init=xavier, bias_init=zeros, **types)
        self.out = init.linear(features, features, bias_init=zeros, **types)

    def __call__(self, x: Float[Array, 'batch tokens features']) -> Float[Array, 'batch tokens features']:
        batch, tokens, features = x.shape
        heads = (batch, tokens, self.num_heads, features // self.num_heads)
        q, k, v = (part.reshape(heads).swapaxes(1, 2) for part in jnp.split(self.qkv(x), 3, axis=-1))
        return self.out(self.attend(q, k, v).swapaxes(1, 2).reshape(x.shape))

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """What every token gathers, for each head: `[B, heads, T, e]`."""
        return attend(q, k, v)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionOptions(TokenOptions):
    """Options of the attention layer."""

    num_heads: int = option(1, 'attention heads, each with its own features', at_least=1)


class AttentionLayer(nnx.Module):
    """The image layer: tokens, 1x1 convolution, attention, image."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        options: AttentionOptions,
        **types: Unpack[Types],
    ):
        self.image = ImageTokens(in_features, out_features, image_size, options, **types)
        going_in, inner = self.image.features
        self.embed = init.linear(going_in, inner, **types)
        self.attention = TokenAttention(inner, options.num_heads, **types)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the image coming out."""
        return self.image.out_size

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch rows columns out']:
        tokens = self.image.split(x)
        return self.image.join(self.attention(self.embed(tokens)))
