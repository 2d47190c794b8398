"""The convolution of all models."""

import dataclasses
from typing import Any, Unpack

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from flaxnets.layers.init import Initializer, Types, uniform
from flaxnets.options import Options, option


class Conv(nnx.Conv):
    """A convolution `[B, H, W, in] -> [B, H', W', out]` with PyTorch's initial values (see `init.py`).

    Args:
        in_features, out_features: channels.
        kernel_size: side of the kernel.
        strides: of both axes.
        padding: 'SAME', 'VALID' or the number of zeros on every side, as in PyTorch.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        padding: int | str = 'SAME',
        use_bias: bool = True,
        kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        **types: Unpack[Types],
    ):
        init = uniform(in_features * kernel_size**2)
        super().__init__(
            in_features,
            out_features,
            (kernel_size, kernel_size),
            strides=strides,
            padding=padding,
            use_bias=use_bias,
            kernel_init=kernel_init or init,
            bias_init=bias_init or init,
            **types,
        )

    def __call__(
        self, inputs: Float[Array, 'batch height width channels'], out_sharding: Any = None
    ) -> Float[Array, 'batch rows columns out']:
        """The convolution; a 1x1 convolution is computed as a matrix product.

        For a convolution XLA transposes image and gradient on CPU to compute the kernel's gradient, which
        takes longer than the matrix product.
        """
        if self.kernel_size != (1, 1) or self.strides != 1 or self.padding not in ('SAME', 'VALID', 0):
            return super().__call__(inputs, out_sharding)
        arrays = inputs, self.kernel[0, 0], None if self.bias is None else self.bias[...]
        x, kernel, bias = promote_dtype(arrays, dtype=self.dtype)
        y = jnp.matmul(x, kernel, precision=self.precision)
        return y if bias is None else y + bias


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvOptions(Options):
    """Options of a convolution as an image layer."""

    kernel_size: int = option(3, 'side of the kernel', at_least=1)


def conv_layer(
    in_features: int,
    out_features: int,
    image_size: tuple[int, int],
    options: ConvOptions,
    **types: Unpack[Types],
) -> Conv:
    """A convolution that keeps the image's size: the layer of the model `cnn`."""
    return Conv(in_features, out_features, options.kernel_size, **types)
