"""The convolution of all models."""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from flaxnets.layers import batch, onednn
from flaxnets.layers.init import Initializer, Types, uniform
from flaxnets.layers.product import matmul, product
from flaxnets.options import Options, option

# Bytes of the two factors that are one product: what stays in a core's cache.
CACHED = 2**21


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
        on a CPU the kernel's gradient is a product too: see `convolution`.
        """
        side, (height, width) = self.kernel_size[0], inputs.shape[1:3]
        zeros = self._zeros()
        stride = int(self.strides)  # type: ignore[arg-type]  # as `__init__` was given it
        keeps_size = side % 2 == 1 and stride == 1 and zeros == side // 2
        fits = 1 < side <= min(height, width)
        arrays = inputs, self.kernel[...], None if self.bias is None else self.bias[...]
        x, kernel, bias = promote_dtype(arrays, dtype=self.dtype)
        if keeps_size and not fits:
            y = patch_product(x, kernel, self.precision)
        elif zeros is None or zeros >= side or not fits:
            return super().__call__(inputs, out_sharding)
        elif jax.default_backend() == 'cpu' and not batch.current().divided:
            y = convolution(x, kernel, stride, zeros, onednn.computes(x.dtype))
        else:
            return super().__call__(inputs, out_sharding)
        return y if bias is None else y + bias

    def _zeros(self) -> int | None:
        """How many zeros it adds on every side; None where that differs from side to side."""
        if self.padding == 'SAME':
            even = self.kernel_size[0] % 2 == 1 and self.strides == 1
            return self.kernel_size[0] // 2 if even else None
        if self.padding == 'VALID':
            return 0
        return self.padding if isinstance(self.padding, int) else None


def side_by_side(
    conv: Conv, parts: Sequence[Float[Array, 'batch height width _']]
) -> Float[Array, 'batch height width out']:
    """What a 1x1 convolution computes of several inputs' channels side by side.

    A product for each, added up: no array of all channels is stored, forward or backward.
    """
    *arrays, kernel = promote_dtype((*parts, conv.kernel[0, 0]), dtype=conv.dtype)
    kernels = jnp.split(kernel, np.cumsum([x.shape[-1] for x in arrays])[:-1])
    y = functools.reduce(operator.add, map(product, arrays, kernels))
    return y if conv.bias is None else y + conv.bias[...].astype(y.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolution(
    images: Float[Array, 'batch height width channels'],
    kernel: Float[Array, 'side side channels out'],
    stride: int,
    padding: int,
    fast: bool = False,
) -> Float[Array, 'batch rows columns out']:
    """A convolution with `padding` zeros on every side, fewer than the kernel has rows, with gradients that
    suit a CPU (docs/speed.md).

    The kernel's gradient is a product of matrices for a few images at a time: XLA's own takes up to ten times
    as long on a processor without AVX-512. With `fast`, the convolution and, for stride 1, the images'
    gradient are oneDNN's (`onednn.py`).
    """
    if fast:
        return onednn.convolution(images, kernel, stride, padding)
    return _by_xla(kernel, stride, padding, images)


def _by_xla(kernel: Array, stride: int, padding: int, images: Array) -> Array:
    axes = ('NHWC', 'HWIO', 'NHWC')
    zeros = [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(images, kernel, (stride, stride), zeros, dimension_numbers=axes)


def _forward(
    images: Array, kernel: Array, stride: int, padding: int, fast: bool
) -> tuple[Array, tuple[Array, Array]]:
    return convolution(images, kernel, stride, padding, fast), (images, kernel)


def _backward(
    stride: int, padding: int, fast: bool, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernel = saved
    side = len(kernel)
    if stride == 1:
        # Transposed, it is a convolution with the kernel turned around.
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        of_images = convolution(gradient, turned, 1, side - 1 - padding, fast)
    else:
        by_xla = functools.partial(_by_xla, kernel, stride, padding)
        (of_images,) = jax.linear_transpose(by_xla, images)(gradient)
    return of_images, _of_kernel(images, kernel, stride, padding, gradient)


convolution.defvjp(_forward, _backward)


def _of_kernel(images: Array, kernel: Array, stride: int, padding: int, gradient: Array) -> Array:
    """The gradient of `kernel`: a product of matrices for a few images at a time, which stay in the cache.

    With stride 1 the images moved by every column of the kernel meet the gradient moved by every row: each
    of the kernel's places is one such pair, and only `2 * side` copies are made. With a stride it is the
    product of the images' patches, `side**2` copies, with the gradient.
    """
    side, _, channels, out = kernel.shape
    exact = jnp.promote_types(kernel.dtype, jnp.float32)
    moved = stride == 1
    widths = (side * channels, side * out) if moved else (side**2 * channels, out)

    def added(part: Array, total: Array) -> Array:
        images, gradient = (jax.lax.dynamic_slice_in_dim(x, part * count, count) for x in whole)
        if moved:
            zeros = side - 1 - padding
            images = _patches(images, (1, side), 1, (0, padding))
            gradient = _patches(gradient, (side, 1), 1, (zeros, 0))
        else:
            images = _patches(images, (side, side), stride, (padding, padding))
        left, right = images.reshape(-1, widths[0]), gradient.reshape(-1, widths[1])
        return total + matmul(left.astype(exact), right.astype(exact), (True, False))

    rows = images.shape[1] if moved else gradient.shape[1]
    bytes_of_one = images.dtype.itemsize * rows * gradient.shape[2] * sum(widths)
    count = batch.images_within(CACHED, len(images), bytes_of_one)
    # Whole, because XLA would compute what it hands to the loop in parts another time.
    whole = images, gradient
    total = jax.lax.fori_loop(0, len(images) // count, added, jnp.zeros(widths, exact))
    if moved:  # the gradient moved down meets a row of the kernel further up
        total = total.reshape(side, channels, side, out).transpose(2, 0, 1, 3)[::-1]
    return total.reshape(kernel.shape).astype(kernel.dtype)


def _patches(images: Array, sides: Sequence[int], stride: int, zeros: Sequence[int]) -> Array:
    """[B, H, W, C] -> [B, H', W', rows * columns * C]: what a kernel meets, wherever it stands."""
    padded = jnp.pad(images, ((0, 0), (zeros[0], zeros[0]), (zeros[1], zeros[1]), (0, 0)))
    counts = [(size - side) // stride + 1 for size, side in zip(padded.shape[1:3], sides, strict=True)]

    def met(place: Sequence[int]) -> Array:
        ends = [first + (count - 1) * stride + 1 for first, count in zip(place, counts, strict=True)]
        return padded[:, place[0] : ends[0] : stride, place[1] : ends[1] : stride]

    shifted = [met(place) for place in itertools.product(*map(range, sides))]
    return shifted[0] if len(shifted) == 1 else jnp.concatenate(shifted, axis=-1)


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
    patches = _patches(images, kernel.shape[:2], 1, (down, right))
    return product(patches, kernel.reshape(-1, kernel.shape[-1]), precision)


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
