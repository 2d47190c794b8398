"""A small vision transformer (Dosovitskiy et al., 2021) in the form of seed 003.

    patches -> linear -> [class token, patches] + positions -> blocks -> class token -> linear
    block: x += attention(norm(x));  x += mlp(norm(x))

Its attention differs from the usual one: a head sees only its own slice of the channels, and nothing
mixes the heads' outputs but the mlp. The document's softmax at the end belongs to the loss here
(`loss.softmax_twice`).
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.errors import UserError
from flaxnets.layers import activations, init
from flaxnets.layers.norm import layer_norm
from flaxnets.layers.patches import cosine_positions, patches
from flaxnets.layers.sliced_attention import SlicedAttention

Position = Literal['cosine', 'learned']


class Block(nnx.Module):
    """x += attention(norm1(x)); x += W2 act(W1 norm2(x))."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        act: activations.Activation,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        norm = functools.partial(layer_norm, width, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.norm1 = norm()
        self.attention = SlicedAttention(width, heads, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.norm2 = norm()
        self.fc1 = linear(width, mlp_width)
        self.act = act
        self.fc2 = linear(mlp_width, width)

    def __call__(self, x: Float[Array, 'batch tokens width']) -> Float[Array, 'batch tokens width']:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class ViT(nnx.Module):
    """The vision transformer.

    Args:
        num_classes: 5 by default, the document's even classes.
        blocks, heads, width: number of blocks, heads in each, channels of a token; heads divide width.
        position: 'cosine', a fixed table, or 'learned', a trained one (initially normal, deviation 0.02).
        activation: in the mlps: 'relu', 'tanh' or 'gelu'.
        patch_size: side of a patch; it divides the image's sides.
        mlp_ratio: hidden features of an mlp, in widths.
    """

    def __init__(
        self,
        *,
        num_classes: int = 5,
        image_shape: options.ImageShape = (32, 32, 3),
        blocks: int = 6,
        heads: int = 8,
        width: int = 8,
        position: str = 'cosine',
        activation: str = 'relu',
        patch_size: int = 4,
        mlp_ratio: int = 4,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(
            num_classes=num_classes, heads=heads, width=width, patch_size=patch_size, mlp_ratio=mlp_ratio
        )
        options.whole(blocks=blocks, at_least=0)
        options.one_of('position', position, Position)
        height, columns, channels = self.image_shape = options.image_shape(image_shape)
        if height % patch_size or columns % patch_size:
            raise UserError(
                f"model.patch_size: expected a divisor of the image's sides, {height} and {columns}, "
                f'got {patch_size}'
            )
        self.patch_size = patch_size
        self.width = width
        tokens = 1 + (height // patch_size) * (columns // patch_size)
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.embed = linear(channels * patch_size**2, width)
        self.class_token = nnx.Param(jax.random.uniform(rngs.params(), (1, width), param_dtype))
        table = 0.02 * jax.random.normal(rngs.params(), (tokens, width), param_dtype)
        self.positions = nnx.Param(table) if position == 'learned' else None
        block = functools.partial(
            Block,
            width,
            heads,
            mlp_ratio * width,
            activations.by_name(activation),
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.blocks = nnx.List([block() for _ in range(blocks)])
        self.head = linear(width, num_classes)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        options.images(images, self.image_shape)
        x = self.embed(patches(images, self.patch_size))
        first = jnp.broadcast_to(self.class_token[...].astype(x.dtype), (len(x), 1, self.width))
        x = jnp.concatenate([first, x], axis=1)
        if self.positions is None:
            x = x + jnp.asarray(cosine_positions(x.shape[1], self.width), x.dtype)
        else:
            x = x + self.positions[...].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])
