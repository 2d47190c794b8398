"""VGG16 (Simonyan and Zisserman, 2015) as torchvision has it, and document 003's pruned version.

    five stages of (conv 3x3, ReLU) x 2, 2, 3, 3, 3 and pooling;  mean to 7 x 7;  three linear layers

On 32 x 32 images one pixel is left after the stages, and the adaptive mean repeats it 49 times, so that
ImageNet's classifier fits.

Initial values are torchvision's: convolutions normal with deviation sqrt(2 / (9 · C_out)) (He et al.,
2015), linear layers normal with deviation 0.01, biases 0. In a narrower network, linear layers with
0.01 make the signal so small that nothing is trained; there the deviation grows with 1 / sqrt(inputs), which
keeps the signal as large as in the full network.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.conv import Conv
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.init import Types
from flaxnets.layers.pooling import adaptive_mean_pool, max_pool
from flaxnets.options import ModelOptions, check_images, image_shape, option

FULL: dict[str, Any] = {
    'convolutions': (2, 2, 3, 3, 3),
    'num_classes': 1000,
    'hidden': (4096, 4096),
    'dropout': (0.5, 0.5),
}
PRUNED: dict[str, Any] = {
    'convolutions': (1, 2, 3, 3, 3),
    'num_classes': 10,
    'hidden': (4096, 256),
    'dropout': (0.2, 0.1),
}
# Inputs of torchvision's linear layers, at which their deviation is 0.01.
INPUTS = (7 * 7 * 512, 4096, 4096)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VGG16Options(ModelOptions):
    """Options of VGG16; None: as the published network."""

    num_classes: int | None = option(  # type: ignore[assignment]
        None, 'logits; 1000 as ImageNet, pruned 10', at_least=1, kind=int
    )
    pruned: bool = option(
        False,
        'without the second convolution, the most expensive one, and with a narrower classifier',
    )
    widths: Sequence[int] = option(
        (64, 128, 256, 512, 512), 'channels of the five stages', at_least=1, length=5
    )
    hidden: Sequence[int] | None = option(
        None,
        'features of the first two linear layers; 4096 and 4096, pruned 4096 and 256',
        at_least=1,
        length=2,
        kind=(int,),
    )
    dropout: Sequence[float] | None = option(
        None, 'rates after them; 0.5 and 0.5, pruned 0.2 and 0.1', length=2, kind=(float,)
    )
    pooled: int = option(7, 'side of the map that the adaptive mean makes', at_least=1)


class VGG16(nnx.Module):
    """VGG16, whole or pruned."""

    def __init__(self, options: VGG16Options, **types: Unpack[Types]):
        published = PRUNED if options.pruned else FULL
        num_classes = options.num_classes or published['num_classes']
        second, third = options.hidden or published['hidden']
        dropout = published['dropout'] if options.dropout is None else options.dropout
        widths, pooled = options.widths, options.pooled
        self.image_shape = image_shape(options.image_shape, at_least=32)
        inputs = (self.image_shape[-1], *widths)
        self.stages = nnx.List(
            [
                nnx.List([convolution(b if i else a, b, **types) for i in range(n)])
                for a, b, n in zip(inputs, widths, published['convolutions'], strict=False)
            ]
        )
        self.features = (pooled, pooled, widths[-1])
        first = pooled**2 * widths[-1]
        self.fc1 = linear(first, second, INPUTS[0], **types)
        self.dropout1 = Dropout(dropout[0])
        self.fc2 = linear(second, third, INPUTS[1], **types)
        self.dropout2 = Dropout(dropout[1])
        self.fc3 = linear(third, num_classes, INPUTS[2], **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits. In training, dropout draws from `rngs.dropout()`."""
        check_images(images, self.image_shape)
        x = images
        for stage in self.stages:
            for conv in stage:
                x = nnx.relu(conv(x))
            x = max_pool(x)
        x = adaptive_mean_pool(x, self.features[0])
        x = self.dropout1(nnx.relu(self.fc1(x.reshape(len(x), -1))), rngs=rngs)
        x = self.dropout2(nnx.relu(self.fc2(x)), rngs=rngs)
        return self.fc3(x)


def convolution(in_features: int, out_features: int, **types: Unpack[Types]) -> Conv:
    """A 3x3 convolution with torchvision's initial values for VGG."""
    kernel = jax.nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
    zeros = jax.nn.initializers.zeros
    return Conv(in_features, out_features, padding=1, kernel_init=kernel, bias_init=zeros, **types)


def linear(in_features: int, out_features: int, published: int, **types: Unpack[Types]) -> nnx.Linear:
    """A linear layer with torchvision's initial values at the `published` inputs, scaled for fewer."""
    kernel = jax.nn.initializers.normal(0.01 * max(1.0, math.sqrt(published / in_features)))
    zeros = jax.nn.initializers.zeros
    return init.linear(in_features, out_features, kernel_init=kernel, bias_init=zeros, **types)
