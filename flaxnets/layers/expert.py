"""Expert branches: parallel convolutions, weighted for each image by a small network (seed 002).

    y = sum over k of a_k(x) * ReLU(norm_k(conv_k(x)))          [B, H, W, C] -> [B, H, W, width]
    a(x) = softmax(W2 ReLU(W1 mean(x)))                         [B, H, W, C] -> [B, experts]

The mean is over the image; W1 has `C / reduction` outputs. It is a mixture in which every expert is
computed (Jacobs et al., 1991), with the squeeze and excitation of Hu et al. (2018) as its gate.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.norm import BatchNorm


class Gate(nnx.Module):
    """Weights that add up to 1: softmax(W2 ReLU(W1 mean(x))), one for each expert and image."""

    def __init__(
        self,
        in_features: int,
        experts: int,
        *,
        reduction: int = 8,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(experts=experts, reduction=reduction)
        if in_features < reduction:
            raise UserError(f'model.reduction: expected at most the width, {in_features}, got {reduction}')
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.squeeze = linear(in_features, in_features // reduction)
        self.excite = linear(in_features // reduction, experts)

    def __call__(self, x: Float[Array, 'batch height width channels']) -> Float[Array, 'batch experts']:
        return jax.nn.softmax(self.excite(nnx.relu(self.squeeze(jnp.mean(x, axis=(1, 2))))))


class ExpertLayer(nnx.Module):
    """The gated sum of `experts` branches.

    The branches' kernels lie side by side in one convolution with `experts * width` outputs, expert
    k's at [k * width, (k + 1) * width). Batch normalisation treats channels one by one, so one norm
    over all of them is the branches' own.

    Args:
        in_features, width: channels in and out.
        kernel_size: odd, so that the padding keeps the image's size.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        experts: int = 3,
        reduction: int = 8,
        kernel_size: int = 3,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(width=width, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise UserError(f'model.kernel_size: expected an odd number, got {kernel_size}')
        self.gate = Gate(
            in_features, experts, reduction=reduction, dtype=dtype, param_dtype=param_dtype, rngs=rngs
        )
        self.conv = init.conv(
            in_features,
            experts * width,
            (kernel_size, kernel_size),
            padding=kernel_size // 2,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(experts * width, dtype=dtype, param_dtype=param_dtype)
        self.experts = experts

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width outputs']:
        branches = jnp.split(nnx.relu(self.norm(self.conv(x))), self.experts, axis=-1)
        weights = jnp.split(self.gate(x)[:, None, None], self.experts, axis=-1)
        # Term by term: compilers fuse these into one pass, a contraction over experts they do not.
        return functools.reduce(operator.add, map(operator.mul, branches, weights))
