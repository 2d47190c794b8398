"""Expert branches: parallel convolutions, weighted for each image by a gate (document 002).

    y = sum over k of a_k(x) * ReLU(norm_k(conv_k(x)))          [B, H, W, C] -> [B, H, W, width]
    a(x) = softmax(W2 ReLU(W1 mean(x)))                         [B, H, W, C] -> [B, experts]

The mean is over the image; W1 has `C / reduction` outputs. It is a mixture in which every expert is
computed (Jacobs et al., 1991), with the squeeze and excitation of Hu et al. (2018) as its gate.
"""

import dataclasses
import functools
import operator
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.conv import Conv
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertOptions(Options):
    """Options of an expert layer."""

    experts: int = option(3, 'parallel branches of a layer', at_least=1)
    reduction: int = option(8, 'the gate has width // reduction hidden features', at_least=1)
    kernel_size: int = option(3, 'of the branches, odd', at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise UserError(f'model.kernel_size: expected an odd number, got {self.kernel_size}')


class Gate(nnx.Module):
    """Weights that add up to 1: softmax(W2 ReLU(W1 mean(x))), one for each expert and image."""

    def __init__(self, in_features: int, options: ExpertOptions, **types: Unpack[Types]):
        hidden = in_features // options.reduction
        if not hidden:
            raise UserError(
                f'model.reduction: expected at most the width, {in_features}, got {options.reduction}'
            )
        self.squeeze = init.linear(in_features, hidden, **types)
        self.excite = init.linear(hidden, options.experts, **types)

    def __call__(self, x: Float[Array, 'batch height width channels']) -> Float[Array, 'batch experts']:
        return jax.nn.softmax(self.excite(nnx.relu(self.squeeze(jnp.mean(x, axis=(1, 2))))))


class ExpertLayer(nnx.Module):
    """The gated sum of `experts` branches.

    The kernels of all branches are one convolution with `experts * width` outputs, those of expert k at
    [k * width, (k + 1) * width). Batch normalisation treats channels one by one, so one norm over all of
    them equals a norm for each branch.

    Args:
        in_features, width: channels in and out.
    """

    def __init__(self, in_features: int, width: int, options: ExpertOptions, **types: Unpack[Types]):
        channels = options.experts * width
        self.gate = Gate(in_features, options, **types)
        self.conv = Conv(
            in_features, channels, options.kernel_size, padding=options.kernel_size // 2, **types
        )
        self.norm = BatchNorm(channels, **types)
        self.experts = options.experts

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width outputs']:
        branches = jnp.split(nnx.relu(self.norm(self.conv(x))), self.experts, axis=-1)
        weights = jnp.split(self.gate(x)[:, None, None], self.experts, axis=-1)
        # Term by term: compilers fuse these into one pass, but not a contraction over experts.
        return functools.reduce(operator.add, map(operator.mul, branches, weights))
