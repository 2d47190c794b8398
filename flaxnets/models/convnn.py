"""The ConvNN family (seed 000): one stack over four kinds of layer.

    images [B, H, W, C] -> num_layers x (layer, ReLU) [B, H, W, width] -> flatten -> linear -> logits

The ten published models are this stack over a convolution (`cnn`), over attention (`attention`), over
nearest neighbours (`convnn_*`) and over the first and the third side by side (`branching_*`).
`registry.py` says which name is which layer with which options; the layers are in `layers/`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.candidates import Indices
from flaxnets.options import options_of

Layer = Callable[..., Callable[..., Array]]


class ConvNNStack(nnx.Module):
    """`num_layers` times (layer, ReLU), then one linear map of all positions and channels.

    Args:
        layer: called as `layer(in_features, out_features, (H, W), dtype=, param_dtype=, rngs=)`, gives a
            module `[B, H, W, in_features] -> [B, H, W, out_features]`. One whose attribute
            `draws_candidates` is true is given `candidates` and `rngs` at each call.
        width: channels after each layer.

    Raises:
        UserError: a layer that changes the image's size, and what the layer itself refuses.
    """

    def __init__(
        self,
        *,
        layer: Layer,
        num_classes: int = 10,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        num_layers: int = 2,
        width: int = 16,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        for option, value in {'num_classes': num_classes, 'num_layers': num_layers, 'width': width}.items():
            if value < 1:
                raise UserError(f'model.{option}: expected at least 1, got {value}')
        types: dict[str, Any] = {'dtype': dtype, 'param_dtype': param_dtype, 'rngs': rngs}
        self.image_shape = tuple(image_shape)
        self.width = width
        height, columns, channels = self.image_shape
        self.layers = nnx.List(
            layer(channels if i == 0 else width, width, (height, columns), **types) for i in range(num_layers)
        )
        for made in self.layers:
            size = getattr(made, 'out_size', (height, columns))
            if size != (height, columns):
                raise UserError(
                    f'model.shuffle: expected layers that keep {height} x {columns} images as large, got '
                    f"{size[0]} x {size[1]}; use 'both' or 'none'"
                )
        self.head = init.linear(height * columns * width, num_classes, **types)

    def __call__(
        self,
        images: Float[Array, 'batch height columns channels'],
        *,
        rngs: nnx.Rngs | None = None,
        candidates: Sequence[Indices] | None = None,
    ) -> Float[Array, 'batch classes']:
        """Logits. Random candidates come from `rngs.candidates()`, once a layer and for the whole
        batch, unless they are given: one index array [N] for each layer that would draw them."""
        if images.shape[1:] != self.image_shape:
            raise UserError(
                f'images: expected [batch, {", ".join(map(str, self.image_shape))}], '
                f'got {list(images.shape)}; set model.image_shape'
            )
        drawing = [getattr(layer, 'draws_candidates', False) for layer in self.layers]
        if candidates is not None and len(candidates) != sum(drawing):
            raise UserError(
                f'candidates: expected one index array for each of the {sum(drawing)} layers that draw '
                f'them, got {len(candidates)}'
            )
        given = iter([None] * sum(drawing) if candidates is None else candidates)
        x = images
        for layer, draws in zip(self.layers, drawing, strict=True):
            x = nnx.relu(layer(x, candidates=next(given), rngs=rngs) if draws else layer(x))
        return self.head(x.reshape(len(x), -1))


def convolution(
    in_features: int,
    out_features: int,
    image_size: tuple[int, int],
    *,
    kernel_size: int = 3,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """The layer of `cnn`: a convolution that keeps the image's size."""
    size = (kernel_size, kernel_size)
    return init.conv(in_features, out_features, size, dtype=dtype, param_dtype=param_dtype, rngs=rngs)


def stack_of(layer: Layer, **defaults: Any) -> Callable[..., ConvNNStack]:
    """A model builder: the stack over `layer`, its options being the stack's and the layer's own.

    `defaults` change the layer's. The builder's signature lists all options, so that the registry, the
    command line and `help` know them:

    >>> list(inspect.signature(stack_of(convolution, kernel_size=5)).parameters)
    ['num_classes', 'image_shape', 'num_layers', 'width', 'dtype', 'param_dtype', 'rngs', 'kernel_size']
    """
    stack = {name: p for name, p in options_of(ConvNNStack).items() if name != 'layer'}
    own = {name: p for name, p in options_of(layer).items() if name not in stack}
    own |= {name: own[name].replace(default=value) for name, value in defaults.items()}

    def build(**options: Any) -> ConvNNStack:
        chosen = defaults | {name: options.pop(name) for name in list(options) if name in own}
        return ConvNNStack(layer=functools.partial(layer, **chosen), **options)

    build.__doc__ = layer.__doc__
    build.__signature__ = inspect.Signature([*stack.values(), *own.values()])  # type: ignore[attr-defined]
    return build
