"""The ConvNN family (document 000): one stack over four kinds of layer.

    images [B, H, W, C] -> num_layers x (layer, ReLU) [B, H, W, width] -> flatten -> linear -> logits

The ten published models are this stack over a convolution (`cnn`), over attention (`attention`), over
nearest neighbours (`convnn_*`) and over the first and the third in parallel (`branching_*`).
`registry.py` says which name is which layer with which options; the layers are in `layers/`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.candidates import Indices, applied, dealt, draws
from flaxnets.layers.init import Types
from flaxnets.options import ModelOptions, Options, Recipe, check_images, image_shape, option, recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackOptions(ModelOptions):
    """Options of the stack: its own, and those of its layer."""

    num_layers: int = option(2, 'layers', at_least=1)
    width: int = option(16, 'channels after each layer', at_least=1)
    layer: Recipe


class ConvNNStack(nnx.Module):
    """`num_layers` times (layer, ReLU), then one linear layer over all positions and channels.

    `options.layer` makes a module `[B, H, W, in_features] -> [B, H, W, out_features]`, see `stack_of`.

    Raises:
        UserError: a layer that changes the image's size, and what the layer itself refuses.
    """

    def __init__(self, options: StackOptions, **types: Unpack[Types]):
        height, columns, channels = self.image_shape = image_shape(options.image_shape)
        width = self.width = options.width
        inputs = [channels] + [width] * (options.num_layers - 1)
        self.layers = nnx.List([options.layer.make(n, width, (height, columns), **types) for n in inputs])
        for made in self.layers:
            size = getattr(made, 'out_size', (height, columns))
            if size != (height, columns):
                raise UserError(
                    f'model.shuffle: expected layers that keep the images at {height} x {columns}, got '
                    f"{size[0]} x {size[1]}; use 'both' or 'none'"
                )
        self.head = init.linear(height * columns * width, options.num_classes, **types)

    def __call__(
        self,
        images: Float[Array, 'batch height columns channels'],
        *,
        rngs: nnx.Rngs | None = None,
        candidates: Sequence[Indices] | None = None,
    ) -> Float[Array, 'batch classes']:
        """Logits. Random candidates come from `rngs.candidates()`, once a layer and for the whole
        batch, unless they are given: one index array [N] for each layer that would draw them."""
        check_images(images, self.image_shape)
        given = dealt(candidates, [draws(layer) for layer in self.layers])
        x = images
        for layer, own in zip(self.layers, given, strict=True):
            x = nnx.relu(applied(layer, x, own, rngs))
        return self.head(x.reshape(len(x), -1))


def stack_of(layer: Callable[..., Any], options: Options | None = None, **defaults: Any) -> Recipe:
    """A model: the stack over `layer`, with the options of both.

    Args:
        layer: called as `layer(in_features, out_features, (height, width), options, dtype=, param_dtype=,
            rngs=)`, gives a module `[B, H, W, in_features] -> [B, H, W, out_features]`. One whose attribute
            `draws_candidates` is true is given `candidates` and `rngs` at each call.
        options: the layer's, a frozen dataclass. Without it they are the layer's keyword-only parameters.
        defaults: other defaults for some of them.

    >>> from flaxnets.layers.conv import ConvOptions, conv_layer
    >>> list(stack_of(conv_layer, ConvOptions()).declared())
    ['num_classes', 'image_shape', 'num_layers', 'width', 'kernel_size']
    """
    made = recipe(layer) if options is None else Recipe(layer, options)
    return Recipe(ConvNNStack, StackOptions(layer=made.changed(defaults)))
