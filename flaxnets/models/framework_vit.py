"""The published framework's vision transformer (Kang and Farias, arXiv 2511.14137), ViT-Tiny by default.

    patches -> linear, norm -> [class token, patches] + positions -> blocks -> class token -> linear
    block: x += layer(norm(x));  x += MLP(norm(x))

`layer` says what mixes the tokens: attention, or one of three layers in which a token takes its K best
(`layers/framework/`). The positions are the fixed table of sines and cosines, for the class token too.
There is no norm at the end.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.activations import gelu
from flaxnets.layers.candidates import Indices, dealt, draws
from flaxnets.layers.depth import kept, through
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.framework.attention import Attention
from flaxnets.layers.framework.branch_conv import BranchConv
from flaxnets.layers.framework.convnn_attention import ConvNNAttention
from flaxnets.layers.framework.knn_attention import KNNAttention
from flaxnets.layers.framework.sampling import check_grid
from flaxnets.layers.framework.sine_positions import sine_positions
from flaxnets.layers.framework.token_options import TokenLayerOptions
from flaxnets.layers.init import Types
from flaxnets.layers.norm import layer_norm
from flaxnets.layers.patches import after_class_token, count, patches
from flaxnets.options import ModelOptions, check_images, image_shape, option

LAYERS: dict[str, Any] = {
    'attention': Attention,
    'convnn_attention': ConvNNAttention,
    'knn_attention': KNNAttention,
    'branch_conv': BranchConv,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameworkViTOptions(ModelOptions):
    """Options of the vision transformer: its own, and those of its layers."""

    image_shape: Sequence[int] = option((224, 224, 3), 'height, width, channels')
    layer: str = option('attention', 'what mixes the tokens', choices=tuple(LAYERS))
    blocks: int = option(12, 'number of blocks', at_least=0)
    width: int = option(192, 'features of a token', at_least=1)
    mlp_width: int = option(768, 'hidden features of an MLP', at_least=1)
    patch_size: int = option(16, "side of a patch; a divisor of the image's sides", at_least=1)
    mixer: TokenLayerOptions = dataclasses.field(default_factory=TokenLayerOptions)


class FrameworkBlock(nnx.Module):
    """x += layer(norm1(x)); x += W2 dropout(gelu(W1 norm2(x)))."""

    def __init__(self, tokens: int, options: FrameworkViTOptions, **types: Unpack[Types]):
        width = options.width
        self.norm1 = layer_norm(width, **types)
        self.attention = LAYERS[options.layer](width, tokens, options.mixer, **types)
        self.norm2 = layer_norm(width, **types)
        self.fc1 = init.linear(width, options.mlp_width, **types)
        self.dropout = Dropout(options.mixer.dropout)
        self.fc2 = init.linear(options.mlp_width, width, **types)

    def __call__(
        self,
        x: Float[Array, 'batch tokens width'],
        *,
        candidates: Indices | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, 'batch tokens width']:
        given = {'candidates': candidates} if draws(self.attention) else {}
        x = kept(x + self.attention(self.norm1(x), rngs=rngs, **given))
        hidden = kept(self.fc1(self.norm2(x)))
        return x + self.fc2(self.dropout(gelu(hidden), rngs=rngs))


class FrameworkViT(nnx.Module):
    """The vision transformer of this file."""

    def __init__(self, options: FrameworkViTOptions, **types: Unpack[Types]):
        height, columns, channels = self.image_shape = image_shape(options.image_shape)
        size, width = options.patch_size, options.width
        self.patch_size = size
        tokens = 1 + count(height, columns, size)
        check_grid(options.mixer, tokens, f'{tokens} tokens')
        self.embed = init.linear(channels * size**2, width, **types)
        self.norm = layer_norm(width, **types)
        self.class_token = init.parameter((1, width), jax.nn.initializers.normal(1.0), **types)
        self.blocks = nnx.List([FrameworkBlock(tokens, options, **types) for _ in range(options.blocks)])
        self.head = init.linear(width, options.num_classes, **types)

    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        rngs: nnx.Rngs | None = None,
        candidates: Sequence[Indices] | None = None,
    ) -> Float[Array, 'batch classes']:
        """Logits. Random candidates come from `rngs.candidates()`, once a block and for the whole batch,
        unless they are given: one index array [N] for each block. In training, dropout draws from
        `rngs.dropout()`."""
        check_images(images, self.image_shape)
        x = self.norm(self.embed(patches(images, self.patch_size)))
        x = after_class_token(self.class_token, x)
        x = x + jnp.asarray(sine_positions(*x.shape[1:]), x.dtype)
        drawn = dealt(candidates, [draws(block.attention) for block in self.blocks])
        x = through(self.blocks, x, drawn, rngs)
        return self.head(x[:, 0])
