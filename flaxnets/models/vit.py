"""A small vision transformer (Dosovitskiy et al., 2021) in the form of document 003.

    patches -> linear -> [class token, patches] + positions -> blocks -> class token -> linear
    block: x += attention(norm(x));  x += MLP(norm(x))

Its attention differs from the usual one: a head sees only its own slice of the channels, and nothing
mixes the heads' outputs but the MLP. The document's softmax at the end belongs to the loss here
(`loss.softmax_twice`).
"""

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.activations import ACTIVATIONS
from flaxnets.layers.init import Types
from flaxnets.layers.norm import layer_norm
from flaxnets.layers.patches import after_class_token, cosine_positions, count, patches
from flaxnets.layers.sliced_attention import SlicedAttention
from flaxnets.options import ModelOptions, check_images, image_shape, option

# The document does not state the initial values of its trained table.
POSITION_INIT = {
    'normal_0.02': jax.nn.initializers.normal(0.02),
    'normal_1': jax.nn.initializers.normal(1.0),
    'uniform': jax.nn.initializers.uniform(1.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTOptions(ModelOptions):
    """Options of the vision transformer."""

    num_classes: int = option(5, "logits, one per class; the document's even classes", at_least=1)
    blocks: int = option(6, 'number of blocks', at_least=0)
    heads: int = option(8, 'heads of a block; a divisor of the width', at_least=1)
    width: int = option(8, 'features of a token', at_least=1)
    position: str = option(
        'cosine',
        'a fixed table of positions, or a trained one',
        choices=('cosine', 'learned'),
    )
    position_init: str = option(
        'normal_0.02',
        'initial values of a trained table: normal with deviation 0.02 or 1, or uniform from 0 to 1',
        choices=tuple(POSITION_INIT),
    )
    activation: str = option('relu', 'of the MLPs', choices=tuple(ACTIVATIONS))
    patch_size: int = option(4, "side of a patch; a divisor of the image's sides", at_least=1)
    mlp_ratio: int = option(4, 'hidden features of an MLP, as a multiple of the width', at_least=1)


class Block(nnx.Module):
    """x += attention(norm1(x)); x += W2 act(W1 norm2(x))."""

    def __init__(self, options: ViTOptions, **types: Unpack[Types]):
        width, hidden = options.width, options.mlp_ratio * options.width
        self.norm1 = layer_norm(width, **types)
        self.attention = SlicedAttention(width, options.heads, **types)
        self.norm2 = layer_norm(width, **types)
        self.fc1 = init.linear(width, hidden, **types)
        self.act = ACTIVATIONS[options.activation]
        self.fc2 = init.linear(hidden, width, **types)

    def __call__(self, x: Float[Array, 'batch tokens width']) -> Float[Array, 'batch tokens width']:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class ViT(nnx.Module):
    """The vision transformer."""

    def __init__(self, options: ViTOptions, **types: Unpack[Types]):
        height, columns, channels = self.image_shape = image_shape(options.image_shape)
        size, width = options.patch_size, options.width
        self.patch_size = size
        tokens = 1 + count(height, columns, size)
        self.embed = init.linear(channels * size**2, width, **types)
        self.class_token = init.parameter((1, width), jax.nn.initializers.uniform(1.0), **types)
        table = init.parameter((tokens, width), POSITION_INIT[options.position_init], **types)
        self.positions = table if options.position == 'learned' else None
        self.blocks = nnx.List([Block(options, **types) for _ in range(options.blocks)])
        self.head = init.linear(width, options.num_classes, **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        check_images(images, self.image_shape)
        x = self.embed(patches(images, self.patch_size))
        x = after_class_token(self.class_token, x)
        if self.positions is None:
            x = x + jnp.asarray(cosine_positions(*x.shape[1:]), x.dtype)
        else:
            x = x + self.positions[...].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])
