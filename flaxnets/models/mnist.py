"""Networks for MNIST (document 004): a multilayer perceptron, and a small CNN with the document's variants.

    mlp        flatten, (linear, ReLU) x 2, linear
    mnist_cnn  conv 3x3, activation, pool 2, conv 3x3, activation, pool 2, conv 3x3, activation, linear

Variants of the CNN: pooling before the activation; another activation; `residual` more layers after
each convolution. Those are pre-activation layers (He et al., 2016, "Identity Mappings in Deep
Residual Networks"): x + conv(activation(norm(x))), the norm and the sum being options.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.activations import ACTIVATIONS, Activation
from flaxnets.layers.conv import Conv
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.layers.pooling import max_pool
from flaxnets.options import ModelOptions, check_images, image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPOptions(ModelOptions):
    """Options of the multilayer perceptron."""

    image_shape: Sequence[int] = option((28, 28, 1), 'height, width, channels')
    hidden: Sequence[int] = option((50, 50), 'features of each hidden layer', at_least=1)


class MLP(nnx.Module):
    """Fully connected layers with ReLU between them."""

    def __init__(self, options: MLPOptions, **types: Unpack[Types]):
        height, width, channels = self.image_shape = image_shape(options.image_shape)
        sizes = [height * width * channels, *options.hidden]
        self.hidden = nnx.List([init.linear(a, b, **types) for a, b in itertools.pairwise(sizes)])
        self.output = init.linear(sizes[-1], options.num_classes, **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        check_images(images, self.image_shape)
        x = images.reshape(len(images), -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.output(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MNISTCNNOptions(ModelOptions):
    """Options of the CNN and its variants."""

    image_shape: Sequence[int] = option((28, 28, 1), 'height, width, channels')
    widths: Sequence[int] = option(
        (8, 16, 32), 'channels of each convolution; between two of them the image is halved', at_least=1
    )
    order: str = option(
        'act_pool', 'pool_act: pooling before the activation', choices=('act_pool', 'pool_act')
    )
    activation: str = option('relu', 'between the convolutions', choices=tuple(ACTIVATIONS))
    residual: int = option(
        0,
        'extra layers after each convolution; with them the activations after the convolutions are left '
        'out, and one comes before the classifier',
        at_least=0,
    )
    skip: bool = option(True, 'extra layers add their input')
    oversight: bool = option(
        False,
        "the second stage's extra layers have no activation, as in the document's plain network by mistake",
    )
    batch_norm: bool = option(False, 'extra layers normalise their input first')

    def __post_init__(self) -> None:
        """Options that would change nothing are mistakes."""
        super().__post_init__()
        if self.residual == 0 and (self.batch_norm or self.oversight or not self.skip):
            raise UserError(
                'model.residual: batch_norm, oversight and skip=False describe the extra layers, and there '
                'are none; set model.residual=3'
            )
        if self.residual and self.order != 'act_pool':
            raise UserError(
                f'model.order: {self.order!r} needs model.residual=0, because with extra layers there '
                'is no activation next to the pooling'
            )
        if self.oversight and (self.skip or self.batch_norm):
            raise UserError(
                'model.oversight: it belongs to the network without skips; set model.skip=False and '
                'model.batch_norm=False'
            )


class ExtraLayer(nnx.Module):
    """conv(act(norm(x))), added to x with `options.skip`; the shape does not change. `act` may be none."""

    def __init__(self, width: int, act: Activation | None, options: MNISTCNNOptions, **types: Unpack[Types]):
        self.norm = BatchNorm(width, **types) if options.batch_norm else None
        self.act = act
        self.conv = Conv(width, width, padding=1, **types)
        self.skip = options.skip

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width channels']:
        y = x if self.norm is None else self.norm(x)
        y = self.conv(y if self.act is None else self.act(y))
        return x + y if self.skip else y


class MNISTCNN(nnx.Module):
    """The CNN and its variants."""

    def __init__(self, options: MNISTCNNOptions, **types: Unpack[Types]):
        widths, halvings = options.widths, len(options.widths) - 1
        height, columns, channels = self.image_shape = image_shape(options.image_shape, at_least=2**halvings)
        self.act = ACTIVATIONS[options.activation]
        self.pool_first = options.order == 'pool_act'
        self.convs = nnx.List(
            [Conv(a, b, padding=1, **types) for a, b in zip([channels, *widths], widths, strict=False)]
        )
        acts = [None if options.oversight and stage == 1 else self.act for stage in range(len(widths))]
        self.extra = nnx.List(
            [
                nnx.List([ExtraLayer(width, act, options, **types) for _ in range(options.residual)])
                for width, act in zip(widths, acts, strict=True)
            ]
        )
        self.features = (height >> halvings, columns >> halvings, widths[-1])
        size = self.features[0] * self.features[1] * self.features[2]
        self.output = init.linear(size, options.num_classes, **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        check_images(images, self.image_shape)
        x = images
        for stage, (conv, extra) in enumerate(zip(self.convs, self.extra, strict=True)):
            if stage:
                x = self._pool(x)
            x = conv(x)
            for layer in extra:
                x = layer(x)
        x = self.act(x)
        return self.output(x.reshape(len(x), -1))

    def _pool(self, x: Array) -> Array:
        """Between two convolutions: the activation, unless the extra layers have it, and the pooling."""
        if len(self.extra[0]):
            return max_pool(x)
        return self.act(max_pool(x)) if self.pool_first else max_pool(self.act(x))
