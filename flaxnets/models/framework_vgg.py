"""The published framework's VGG 11, 13, 16 and 19 (Kang and Farias, arXiv 2511.14137).

    five stages of (layer, BatchNorm, ReLU) and pooling;  mean to 7 x 7;  three linear layers

`layer` says what stands in the place of a 3x3 convolution (`layers/framework/image_layer.py`). The widths are
torchvision's; initial values are PyTorch's defaults.
"""

import dataclasses
from collections.abc import Sequence
from typing import Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.candidates import Indices, applied, dealt, draws
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.framework.image_layer import ImageLayerOptions, image_layer
from flaxnets.layers.framework.sampling import check_grid
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.layers.pooling import adaptive_mean_pool, max_pool
from flaxnets.options import ModelOptions, check_images, image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameworkVGGOptions(ModelOptions):
    """Options of a VGG: its own, and those of its layers."""

    convolutions: Sequence[int] = option((1, 1, 2, 2, 2), 'layers of the five stages', at_least=1, length=5)
    widths: Sequence[int] = option(
        (64, 128, 256, 512, 512), 'channels of the five stages', at_least=1, length=5
    )
    hidden: Sequence[int] = option(
        (4096, 4096), 'features of the first two linear layers', at_least=1, length=2
    )
    pooled: int = option(7, 'side of the map that the adaptive mean makes', at_least=1)
    dropout: float = option(0.5, 'rate after each of them')
    mixer: ImageLayerOptions = dataclasses.field(default_factory=ImageLayerOptions)


class FrameworkVGG(nnx.Module):
    """The VGG of this file."""

    def __init__(self, options: FrameworkVGGOptions, **types: Unpack[Types]):
        height, columns, channels = self.image_shape = image_shape(options.image_shape, at_least=32)
        check_grid(options.mixer.nearest, min(height, columns), f'{height} x {columns} images')
        self.counts = options.convolutions
        layers, norms = [], []
        for stage, (width, count) in enumerate(zip(options.widths, options.convolutions, strict=True)):
            size = height >> stage, columns >> stage
            for _ in range(count):
                layers.append(image_layer(channels, width, size, options.mixer, **types))
                norms.append(BatchNorm(width, **types))
                channels = width
        self.layers, self.norms = nnx.List(layers), nnx.List(norms)
        self.features = (options.pooled, options.pooled, channels)
        first, second = options.hidden
        self.fc1 = init.linear(options.pooled**2 * channels, first, **types)
        self.fc2 = init.linear(first, second, **types)
        self.fc3 = init.linear(second, options.num_classes, **types)
        self.dropout1, self.dropout2 = Dropout(options.dropout), Dropout(options.dropout)

    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        rngs: nnx.Rngs | None = None,
        candidates: Sequence[Indices] | None = None,
    ) -> Float[Array, 'batch classes']:
        """Logits. Random candidates come from `rngs.candidates()`, once a layer and for the whole batch,
        unless they are given: one index array [N] for each layer that draws. In training, dropout draws from
        `rngs.dropout()`."""
        check_images(images, self.image_shape)
        x = images
        drawn = dealt(candidates, [draws(layer) for layer in self.layers])
        parts = iter(zip(self.layers, self.norms, drawn, strict=True))
        for count in self.counts:
            for _ in range(count):
                layer, norm, own = next(parts)
                x = nnx.relu(norm(applied(layer, x, own, rngs)))
            x = max_pool(x)
        x = adaptive_mean_pool(x, self.features[0])
        x = self.dropout1(nnx.relu(self.fc1(x.reshape(len(x), -1))), rngs=rngs)
        x = self.dropout2(nnx.relu(self.fc2(x)), rngs=rngs)
        return self.fc3(x)
