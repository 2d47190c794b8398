"""Block CNN: how deep can a plain chain of convolutions be trained? (document 001)

    conv 5x5, conv 5x5 / 2, blocks x (conv 3x3, [norm], ReLU) x 2, conv 3x3 / 2, linear, ReLU, linear

No block adds its input to its output, so without batch normalisation the signal shrinks from layer to
layer, and from six blocks on training stays at chance; with it ten blocks train.

The block as printed in the document computes its first half and then applies the second half to the block's
input, so that the first half has no effect. `oversight=True` reproduces this: a chain of half the length.
"""

import dataclasses
import functools
from typing import Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.conv import Conv
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.options import ModelOptions, check_images, image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockCNNOptions(ModelOptions):
    """Options of the block CNN."""

    blocks: int = option(10, 'number of blocks', at_least=0)
    batch_norm: bool = option(False, 'normalise after every convolution of the blocks')
    oversight: bool = option(
        False, "blocks of one convolution, as the document's code computes them by mistake"
    )
    width: int = option(8, 'channels of the first two convolutions and of the blocks', at_least=1)
    head_width: int = option(4, 'channels of the last convolution', at_least=1)
    hidden: int = option(100, 'features between the two linear layers', at_least=1)


class ConvBlock(nnx.Module):
    """Two times a 3x3 convolution, batch normalisation if chosen, and ReLU; the shape does not change.

    With `oversight` only the second half.

    Attributes:
        unused_parameters: those of the first half, if no output depends on it; left out here, but counted
            in the document.
    """

    def __init__(self, options: BlockCNNOptions, **types: Unpack[Types]):
        width, batch_norm, oversight = options.width, options.batch_norm, options.oversight
        conv = functools.partial(Conv, width, width, padding=1, **types)
        norm = functools.partial(BatchNorm, width, **types)
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
    nor the one after them, and the last linear layer has no bias."""

    def __init__(self, options: BlockCNNOptions, **types: Unpack[Types]):
        self.image_shape = image_shape(options.image_shape, at_least=13)
        *sides, channels = self.image_shape
        conv = functools.partial(Conv, padding='VALID', **types)
        width, head_width, hidden = options.width, options.head_width, options.hidden
        self.conv1 = conv(channels, width, 5)
        self.conv2 = conv(width, width, 5, strides=2)
        self.blocks = nnx.List([ConvBlock(options, **types) for _ in range(options.blocks)])
        self.conv3 = conv(width, head_width, 3, strides=2)
        # 32 -> 28 -> 12 -> 5
        rows, columns = (((side - 4 - 5) // 2 + 1 - 3) // 2 + 1 for side in sides)
        self.features = (rows, columns, head_width)
        self.fc1 = init.linear(rows * columns * head_width, hidden, **types)
        self.fc2 = init.linear(hidden, options.num_classes, use_bias=False, **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        check_images(images, self.image_shape)
        x = self.conv2(self.conv1(images))
        for block in self.blocks:
            x = block(x)
        x = self.conv3(x)
        x = nnx.relu(self.fc1(x.reshape(len(x), -1)))
        return self.fc2(x)
