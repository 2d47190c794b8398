"""PyTorch's default initial values, the linear layer that uses them, and the types that every module takes.

PyTorch draws the kernel *and the bias* of a convolution or linear layer uniformly from
±1/sqrt(fan_in), with fan_in = input channels x kernel positions (He et al., 2015, as
`torch.nn.modules.conv._ConvNd.reset_parameters` applies it). Flax's defaults differ (LeCun normal
kernels, zero biases), and some published findings, the collapse of deep block CNNs among them,
depend on these.
"""

import math
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.layers.product import product

Initializer = jax.nn.initializers.Initializer


class Types(TypedDict, total=False):
    """Keyword arguments of every module, after sizes and options; it passes them to its parts, `**types`.

    dtype: of the computation; None: what inputs and parameters promote to.
    param_dtype: of the parameters, float32 by default.
    rngs: the random streams of the initial values; no module keeps them.
    """

    dtype: DTypeLike | None
    param_dtype: DTypeLike
    rngs: nnx.Rngs


def uniform(fan_in: int) -> Initializer:
    """Uniform in ±1/sqrt(fan_in), for any shape."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def parameter(shape: Sequence[int], initial: Initializer, **types: Unpack[Types]) -> nnx.Param:
    """A parameter with values drawn from `rngs.params()`."""
    return nnx.Param(initial(types['rngs'].params(), tuple(shape), types.get('param_dtype', jnp.float32)))


class Linear(nnx.Linear):
    """A linear layer over the last axis, `[..., in] -> [..., out]`."""

    def __call__(
        self, inputs: Float[Array, '*batch in'], out_sharding: Any = None
    ) -> Float[Array, '*batch out']:
        """One product of matrices, whatever the number of axes (`product.py`)."""
        if out_sharding is not None:
            return super().__call__(inputs, out_sharding)
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)
        y = product(x, kernel, self.precision)
        return y if bias is None else y + bias


def linear(
    in_features: int,
    out_features: int,
    *,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    **types: Unpack[Types],
) -> Linear:
    """A linear layer over the last axis, `[..., in] -> [..., out]`, with PyTorch's initial values."""
    init = uniform(in_features)
    return Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        kernel_init=kernel_init or init,
        bias_init=bias_init or init,
        **types,
    )
