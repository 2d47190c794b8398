"""Block CNN: how deep can a plain chain of convolutions be trained? (seed 001)

    conv 5x5, conv 5x5 / 2, blocks x (conv 3x3, [norm], ReLU) x 2, conv 3x3 / 2, linear, ReLU, linear

Nothing is added around the blocks, so without batch normalisation the signal shrinks from layer to
layer, and from six blocks on training stays at chance; with it ten blocks train.

The block as the document prints it computes its first half and then applies the second to the block's
input, so that the first half changes nothing. `oversight=True` reproduces that: a chain half as long.
"""

import functools

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.layers import init
from flaxnets.layers.norm import BatchNorm


class ConvBlock(nnx.Module):
    """Twice a 3x3 convolution, batch normalisation if asked for, ReLU; the shape stays.

    With `oversight` the second half alone.

    Attributes:
        unused_parameters: those of the first half, where no output depends on it; left out here, counted
            in the document.
    """

    def __init__(
        self,
        width: int,
        *,
        batch_norm: bool,
        oversight: bool = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(
            init.conv, width, width, padding=1, dtype=dtype, param_dtype=param_dtype, rngs=rngs
        )
        norm = functools.partial(BatchNorm, width, dtype=dtype, param_dtype=param_dtype)
        self.unused_parameters = (9 * width + 1 + 2 * batch_norm) * width if oversight else 0
        self.conv1 = None if oversight else conv()
        self.bn1 = norm() if batch_norm and not oversight else None
        self.conv2 = conv()
        self.bn2 = norm() if batch_norm else None

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width channels']:
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            if conv is not None:
                x = conv(x)
                x = nnx.relu(x if norm is None else norm(x))
        return x


class BlockCNN(nnx.Module):
    """The block CNN. As in the document, no activation follows the two convolutions before the blocks
    nor the one after them, and the last linear map has no bias.

    Args:
        blocks: number of blocks, from 0 up.
        batch_norm: normalise after every convolution of the blocks.
        oversight: blocks of one convolution, as the document's code computes them by mistake.
        width: channels of the first two convolutions and of the blocks.
        head_width: channels of the last convolution.
        hidden: features between the two linear maps.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: options.ImageShape = (32, 32, 3),
        blocks: int = 10,
        batch_norm: bool = False,
        oversight: bool = False,
        width: int = 8,
        head_width: int = 4,
        hidden: int = 100,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(num_classes=num_classes, width=width, head_width=head_width, hidden=hidden)
        options.whole(blocks=blocks, at_least=0)
        self.image_shape = options.image_shape(image_shape, at_least=13)
        *sides, channels = self.image_shape
        conv = functools.partial(init.conv, padding='VALID', dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

        self.conv1 = conv(channels, width, (5, 5))
        self.conv2 = conv(width, width, (5, 5), strides=2)
        block = functools.partial(
            ConvBlock,
            width,
            batch_norm=batch_norm,
            oversight=oversight,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.blocks = nnx.List([block() for _ in range(blocks)])
        self.conv3 = conv(width, head_width, (3, 3), strides=2)
        # 32 -> 28 -> 12 -> 5
        rows, columns = (((side - 4 - 5) // 2 + 1 - 3) // 2 + 1 for side in sides)
        self.features = (rows, columns, head_width)
        self.fc1 = linear(rows * columns * head_width, hidden)
        self.fc2 = linear(hidden, num_classes, use_bias=False)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        options.images(images, self.image_shape)
        x = self.conv2(self.conv1(images))
        for block in self.blocks:
            x = block(x)
        x = self.conv3(x)
        x = nnx.relu(self.fc1(x.reshape(len(x), -1)))
        return self.fc2(x)
