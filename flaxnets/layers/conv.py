"""The convolution of all models."""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from flaxnets.layers import onednn
from flaxnets.layers.batch import images_within, in_parts
from flaxnets.layers.init import Initializer, Types, uniform
from flaxnets.options import Options, option

# Where an output has more bytes than this, `convolution` computes the kernel's gradient.
LARGE = 2**26


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
        """The convolution; as one product of matrices where the kernel is 1x1 or larger than the image.

        XLA computes both badly on CPU: for a 1x1 kernel's gradient it transposes image and gradient, and a
        3x3 convolution of 2x2 images takes 80 times as long as the product. Others may be oneDNN's, and
        the kernel's gradient of large outputs is one product too: see `convolution`.
        """
        side, (height, width) = self.kernel_size[0], inputs.shape[1:3]
        keeps_size = side % 2 == 1 and self.strides == 1 and self.padding in ('SAME', side // 2)
        fits = 1 < side <= min(height, width)
        if not keeps_size:
            return super().__call__(inputs, out_sharding)
        arrays = inputs, self.kernel[...], None if self.bias is None else self.bias[...]
        x, kernel, bias = promote_dtype(arrays, dtype=self.dtype)
        if not fits:
            y = patch_product(x, kernel, self.precision)
        elif (fast := onednn.computes(x.dtype)) or (_large(x, kernel) and jax.default_backend() == 'cpu'):
            y = convolution(x, kernel, fast)
        else:
            return super().__call__(inputs, out_sharding)
        return y if bias is None else y + bias


def side_by_side(
    conv: Conv, parts: Sequence[Float[Array, 'batch height width _']]
) -> Float[Array, 'batch height width out']:
    """What a 1x1 convolution computes of several inputs' channels side by side.

    A product for each, added up: no array of all channels is stored, forward or backward.
    """
    *arrays, kernel = promote_dtype((*parts, conv.kernel[0, 0]), dtype=conv.dtype)
    kernels = jnp.split(kernel, np.cumsum([x.shape[-1] for x in arrays])[:-1])
    y = functools.reduce(operator.add, map(jnp.matmul, arrays, kernels))
    return y if conv.bias is None else y + conv.bias[...].astype(y.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(
    images: Float[Array, 'batch height width channels'],
    kernel: Float[Array, 'side side channels out'],
    fast: bool = False,
) -> Float[Array, 'batch height width out']:
    """A convolution that keeps the images' size, with gradients that suit a CPU (docs/speed.md).

    The kernel's gradient is a product for each row of the kernel where an output is larger than the
    processor's caches: XLA's own takes several times as long. With `fast`, the convolution and the images'
    gradient are oneDNN's (`onednn.py`).
    """
    return onednn.convolution(images, kernel) if fast else _by_xla(images, kernel)


def _by_xla(images: Array, kernel: Array) -> Array:
    axes = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', dimension_numbers=axes)


def _forward(images: Array, kernel: Array, fast: bool) -> tuple[Array, tuple[Array, Array]]:
    return convolution(images, kernel, fast), (images, kernel)


def _backward(fast: bool, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    images, kernel = saved
    # A convolution that keeps the size is, transposed, one with the kernel turned around.
    of_images = convolution(gradient, kernel[::-1, ::-1].swapaxes(2, 3), fast)
    if _large(images, kernel):
        return of_images, _of_kernel(images, kernel, gradient)
    (of_kernel,) = jax.linear_transpose(functools.partial(_by_xla, images), kernel)(gradient)
    return of_images, of_kernel


convolution.defvjp(_forward, _backward)


def _large(images: Array, kernel: Array) -> bool:
    """Whether their convolution's output has more than `LARGE` bytes."""
    return images.size // images.shape[-1] * kernel.shape[-1] * images.dtype.itemsize > LARGE


def _of_kernel(images: Array, kernel: Array, gradient: Array) -> Array:
    """The gradient of `kernel`, as one product for each of its rows."""
    side, (height, width) = len(kernel), images.shape[1:3]
    reach = side // 2

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        images, gradient = part
        padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        columns = jnp.concatenate([padded[:, :, j : j + width] for j in range(side)], axis=-1)
        flat = gradient.reshape(-1, gradient.shape[-1])  # as an einsum over three axes: twice the time
        rows = [columns[:, i : i + height].reshape(len(flat), -1).T @ flat for i in range(side)]
        return total + jnp.stack(rows).reshape(kernel.shape), None

    # A few images at a time: the columns of all of them, in all layers, would double the memory of a step.
    count = images_within(LARGE // 4, len(gradient), gradient.nbytes // len(gradient))
    parts = in_parts(images, count), in_parts(gradient, count)
    return jax.lax.scan(add, jnp.zeros_like(kernel), parts)[0]


def patch_product(
    images: Float[Array, 'batch height width channels'],
    kernel: Float[Array, 'side side channels out'],
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, 'batch height width out']:
    """A convolution that keeps the images' size, as the product of every pixel's patch with the kernel.

    The side is odd. What would only meet the zeros around an image is cut off the kernel.
    """
    height, width = images.shape[1:3]
    reach = kernel.shape[0] // 2
    down, right = min(reach, height - 1), min(reach, width - 1)
    kernel = kernel[reach - down : reach + down + 1, reach - right : reach + right + 1]
    padded = jnp.pad(images, ((0, 0), (down, down), (right, right), (0, 0)))
    shifted = [
        padded[:, i : i + height, j : j + width] for i in range(2 * down + 1) for j in range(2 * right + 1)
    ]
    columns = shifted[0] if len(shifted) == 1 else jnp.concatenate(shifted, axis=-1)
    return jnp.matmul(columns, kernel.reshape(-1, kernel.shape[-1]), precision=precision)


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
