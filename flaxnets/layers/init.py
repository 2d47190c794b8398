"""PyTorch's default initialisers, and the convolution and linear layers that use them.

PyTorch draws the kernel *and the bias* of a convolution or linear layer uniformly from
±1/sqrt(fan_in), with fan_in = input channels x kernel positions (He et al., 2015, as
`torch.nn.modules.conv._ConvNd.reset_parameters` applies it). Flax's defaults differ (LeCun normal
kernels, zero biases), and some published findings, the collapse of deep block CNNs among them,
depend on these.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

Initializer = jax.nn.initializers.Initializer


def uniform(fan_in: int) -> Initializer:
    """Uniform in ±1/sqrt(fan_in), whatever the shape."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def conv(
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int] = (3, 3),
    *,
    strides: int = 1,
    padding: int | str = 'SAME',
    use_bias: bool = True,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A convolution `[B, H, W, in] -> [B, H', W', out]` with PyTorch's initial values.

    `padding` is 'SAME', 'VALID' or the number of zeros on every side (PyTorch's meaning).
    """
    init = uniform(in_features * math.prod(kernel_size))
    return nnx.Conv(
        in_features,
        out_features,
        tuple(kernel_size),
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )


def linear(
    in_features: int,
    out_features: int,
    *,
    use_bias: bool = True,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """A linear map over the last axis, `[..., in] -> [..., out]`, with PyTorch's initial values."""
    init = uniform(in_features)
    return nnx.Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )
