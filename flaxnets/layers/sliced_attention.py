"""Self-attention whose heads see a slice of the channels each (document 003).

On tokens x_t of d features and h heads of e = d / h features, with x^i the channels [i·e, (i + 1)·e):

    q, k, v = x^i · W + b                            e -> e, three linear layers in each head
    y_t^i = Σ_n softmax_n(q_t · k_n / sqrt(e)) v_n   [B, T, d] -> [B, T, d], the heads side by side

The usual attention (Vaswani et al., 2017; `attention.py`) lets every head see all d features and mixes
the heads' outputs by one more linear layer; here the heads exchange nothing.
"""

import functools
from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.attend import Heads, attend
from flaxnets.layers.init import Types


class PerHeadLinear(nnx.Module):
    """A linear layer for each head, `[B, T, heads, e] -> [B, heads, T, e]`, with PyTorch's initial values."""

    def __init__(
        self,
        heads: int,
        features: int,
        **types: Unpack[Types],
    ):
        uniform = init.uniform(features)
        self.kernel = init.parameter((heads, features, features), uniform, **types)
        self.bias = init.parameter((heads, features), uniform, **types)
        self.dtype = types.get('dtype')

    def __call__(
        self, x: Float[Array, 'batch tokens heads features']
    ) -> Float[Array, 'batch heads tokens features']:
        dtype = self.dtype or jnp.result_type(x, self.kernel[...])
        kernel, bias = self.kernel[...].astype(dtype), self.bias[...].astype(dtype)
        return jnp.einsum('bthi,hio->bhto', x.astype(dtype), kernel) + bias[:, None]


class SlicedAttention(nnx.Module):
    """The attention of this file, `[B, T, width] -> [B, T, width]`.

    The bias of the keys adds the same to a query's similarity with every token, which cancels
    in the softmax: it has no effect and its gradient is zero.

    Raises:
        UserError: heads that do not divide the width.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        **types: Unpack[Types],
    ):
        if width % heads:
            raise UserError(f'model.heads: expected a divisor of the width, {width}, got {heads}')
        linear = functools.partial(PerHeadLinear, heads, width // heads, **types)
        self.heads = heads
        self.query, self.key, self.value = linear(), linear(), linear()

    def __call__(self, x: Float[Array, 'batch tokens width']) -> Float[Array, 'batch tokens width']:
        slices = x.reshape(*x.shape[:2], self.heads, -1)
        q, k, v = self.query(slices), self.key(slices), self.value(slices)
        return self.attend(q, k, v).swapaxes(1, 2).reshape(x.shape)

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """What every token gathers, for each head: `[B, heads, T, e]`."""
        return attend(q, k, v)
