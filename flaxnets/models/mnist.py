"""Networks for MNIST (seed 004): a multilayer perceptron, and a small CNN with the document's variants.

    mlp        flatten, (linear, ReLU) x 2, linear
    mnist_cnn  conv 3x3, activation, pool 2, conv 3x3, activation, pool 2, conv 3x3, activation, linear

Variants of the CNN: pooling before the activation; another activation; `residual` more layers after
each convolution. Those are pre-activation layers (He et al., 2016, "Identity Mappings in Deep
Residual Networks"): x + conv(activation(norm(x))), the norm and the sum being options.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.errors import UserError
from flaxnets.layers import activations, init
from flaxnets.layers.norm import BatchNorm
from flaxnets.layers.pooling import max_pool

Order = Literal['act_pool', 'pool_act']


class MLP(nnx.Module):
    """Fully connected layers with ReLU between them.

    Args:
        hidden: features of each hidden layer.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: options.ImageShape = (28, 28, 1),
        hidden: Sequence[int] = (50, 50),
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(num_classes=num_classes, hidden=hidden)
        height, width, channels = self.image_shape = options.image_shape(image_shape)
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        sizes = [height * width * channels, *hidden]
        self.hidden = nnx.List([linear(a, b) for a, b in itertools.pairwise(sizes)])
        self.output = linear(sizes[-1], num_classes)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        options.images(images, self.image_shape)
        x = images.reshape(len(images), -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.output(x)


class ExtraLayer(nnx.Module):
    """conv(act(norm(x))), added to x if `skip`; the shape stays. `act` and the norm may be absent."""

    def __init__(
        self,
        width: int,
        *,
        act: activations.Activation | None,
        skip: bool,
        batch_norm: bool,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.norm = BatchNorm(width, dtype=dtype, param_dtype=param_dtype) if batch_norm else None
        self.act = act
        self.conv = init.conv(width, width, padding=1, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.skip = skip

    def __call__(
        self, x: Float[Array, 'batch height width channels']
    ) -> Float[Array, 'batch height width channels']:
        y = x if self.norm is None else self.norm(x)
        y = self.conv(y if self.act is None else self.act(y))
        return x + y if self.skip else y


class MNISTCNN(nnx.Module):
    """The CNN and its variants.

    Args:
        widths: channels of each convolution; between two of them the image is halved.
        order: 'act_pool', or 'pool_act' for pooling before the activation.
        activation: 'relu', 'tanh' or 'gelu'.
        residual: extra layers after each convolution. With them the activations after the
            convolutions are left out, and one activation stands before the classifier.
        skip: extra layers add their input.
        oversight: the second stage's extra layers convolve their input without an activation, as
            the document's code does by mistake in its plain network (`skip=False`).
        batch_norm: extra layers normalise their input first.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: options.ImageShape = (28, 28, 1),
        widths: Sequence[int] = (8, 16, 32),
        order: str = 'act_pool',
        activation: str = 'relu',
        residual: int = 0,
        skip: bool = True,
        oversight: bool = False,
        batch_norm: bool = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(num_classes=num_classes, widths=widths)
        options.whole(residual=residual, at_least=0)
        options.one_of('order', order, Order)
        _check_variant(order, residual, skip, oversight, batch_norm)
        halvings = len(widths) - 1
        height, columns, channels = self.image_shape = options.image_shape(image_shape, at_least=2**halvings)
        self.act = activations.by_name(activation)
        self.pool_first = order == 'pool_act'
        conv = functools.partial(init.conv, padding=1, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        extra = functools.partial(
            ExtraLayer, skip=skip, batch_norm=batch_norm, dtype=dtype, param_dtype=param_dtype, rngs=rngs
        )
        acts = [None if oversight and stage == 1 else self.act for stage in range(len(widths))]
        self.convs = nnx.List([conv(a, b) for a, b in zip([channels, *widths], widths, strict=False)])
        self.extra = nnx.List(
            [
                nnx.List([extra(width, act=act) for _ in range(residual)])
                for width, act in zip(widths, acts, strict=True)
            ]
        )
        self.features = (height >> halvings, columns >> halvings, widths[-1])
        size = self.features[0] * self.features[1] * self.features[2]
        self.output = init.linear(size, num_classes, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        options.images(images, self.image_shape)
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
        """Between two convolutions: the activation, unless the extra layers hold it, and the pooling."""
        if len(self.extra[0]):
            return max_pool(x)
        return self.act(max_pool(x)) if self.pool_first else max_pool(self.act(x))


def _check_variant(order: str, residual: int, skip: bool, oversight: bool, batch_norm: bool) -> None:
    """Variants that would change nothing are mistakes."""
    if residual == 0 and (batch_norm or oversight or not skip):
        raise UserError(
            'model.residual: batch_norm, oversight and skip=False describe the extra layers, and there '
            'are none; set model.residual=3'
        )
    if residual and order != 'act_pool':
        raise UserError(
            f'model.order: {order!r} needs model.residual=0, because with extra layers no activation '
            'stands beside the pooling'
        )
    if oversight and (skip or batch_norm):
        raise UserError(
            'model.oversight: it belongs to the network without skips; set model.skip=False and '
            'model.batch_norm=False'
        )
