"""ResNet 18 and 34 (He et al., 2016) as the published framework has them (Kang and Farias, arXiv 2511.14137),
and as torchvision has them.

    stem conv, BatchNorm, ReLU -> four stages of blocks -> mean -> dropout -> linear
    block: y = norm(layer(ReLU(norm(layer(x)))));  x = ReLU(y + shortcut(x))

The framework's form keeps the map's size everywhere: a 3x3 stem, stages at stride 1, and a 1x1 convolution
without bias as shortcut where channels change. `stride='imagenet'` is torchvision's network: a 7x7 stem at
stride 2, max pooling, stages 2 to 4 at stride 2, BatchNorm in the shortcut, no dropout; there layers are
convolutions.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.candidates import Indices, applied, dealt, draws
from flaxnets.layers.conv import Conv
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.framework.image_layer import ImageLayerOptions, image_layer
from flaxnets.layers.framework.sampling import check_grid
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.options import ModelOptions, check_images, image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameworkResNetOptions(ModelOptions):
    """Options of a ResNet: its own, and those of its layers."""

    blocks: Sequence[int] = option((2, 2, 2, 2), 'blocks of the four stages', at_least=1, length=4)
    widths: Sequence[int] = option((64, 128, 256, 512), 'channels of the four stages', at_least=1, length=4)
    stride: str = option('one', "the map keeps its size, or torchvision's", choices=('one', 'imagenet'))
    dropout: float = option(0.5, 'rate before the last layer, beside stride=one')
    mixer: ImageLayerOptions = dataclasses.field(default_factory=ImageLayerOptions)


class ResNetBlock(nnx.Module):
    """The block of this file."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        stride: int,
        options: FrameworkResNetOptions,
        **types: Unpack[Types],
    ):
        def made(inputs: int, strides: int) -> Any:
            if options.stride == 'imagenet':
                return Conv(inputs, out_features, strides=strides, padding=1, use_bias=False, **types)
            return image_layer(inputs, out_features, image_size, options.mixer, use_bias=False, **types)

        self.layer1, self.norm1 = made(in_features, stride), BatchNorm(out_features, **types)
        self.layer2, self.norm2 = made(out_features, 1), BatchNorm(out_features, **types)
        changes = in_features != out_features or stride > 1
        self.shortcut = (
            Conv(in_features, out_features, 1, strides=stride, padding=0, use_bias=False, **types)
            if changes
            else None
        )
        normed = changes and options.stride == 'imagenet'
        self.shortcut_norm = BatchNorm(out_features, **types) if normed else None

    def __call__(
        self,
        x: Float[Array, 'batch height width channels'],
        *,
        candidates: Sequence[Indices | None] = (None, None),
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, 'batch rows columns out']:
        y = nnx.relu(self.norm1(applied(self.layer1, x, candidates[0], rngs)))
        y = self.norm2(applied(self.layer2, y, candidates[1], rngs))
        if self.shortcut is not None:
            x = self.shortcut(x)
        if self.shortcut_norm is not None:
            x = self.shortcut_norm(x)
        return nnx.relu(y + x)


class FrameworkResNet(nnx.Module):
    """The ResNet of this file."""

    def __init__(self, options: FrameworkResNetOptions, **types: Unpack[Types]):
        height, columns, channels = self.image_shape = image_shape(options.image_shape)
        self.imagenet = options.stride == 'imagenet'
        if self.imagenet and options.mixer.layer != 'conv':
            raise UserError(
                "model.layer: expected 'conv' beside stride=imagenet, as the other layers keep the "
                f"map's size, got {options.mixer.layer!r}"
            )
        check_grid(options.mixer.nearest, min(height, columns), f'{height} x {columns} images')
        width = options.widths[0]
        side, stride = (7, 2) if self.imagenet else (3, 1)
        self.stem = Conv(channels, width, side, strides=stride, padding=side // 2, use_bias=False, **types)
        self.norm = BatchNorm(width, **types)
        stages = []
        for stage, (features, count) in enumerate(zip(options.widths, options.blocks, strict=True)):
            blocks = []
            for i in range(count):
                stride = 2 if self.imagenet and stage and not i else 1
                blocks.append(ResNetBlock(width, features, (height, columns), stride, options, **types))
                width = features
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.dropout = Dropout(0.0 if self.imagenet else options.dropout)
        self.head = init.linear(width, options.num_classes, **types)

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
        x = nnx.relu(self.norm(self.stem(images)))
        if self.imagenet:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        blocks = [block for stage in self.stages for block in stage]
        drawn = dealt(candidates, [draws(layer) for b in blocks for layer in (b.layer1, b.layer2)])
        for i, block in enumerate(blocks):
            x = block(x, candidates=drawn[2 * i : 2 * i + 2], rngs=rngs)
        return self.head(self.dropout(jnp.mean(x, (1, 2)), rngs=rngs))
