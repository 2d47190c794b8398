"""Expert-branch CNN (document 002), published with 90.53% on CIFAR-10.

stem: conv 3x3, norm, ReLU;  blocks x expert layer (`layers/expert.py`);  mean over the image, linear
"""

import dataclasses
from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import init
from flaxnets.layers.conv import Conv
from flaxnets.layers.expert import ExpertLayer, ExpertOptions
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.options import ModelOptions, check_images, image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertCNNOptions(ModelOptions):
    """Options of the expert-branch CNN."""

    blocks: int = option(8, 'number of expert layers', at_least=0)
    width: int = option(64, 'channels throughout', at_least=1)
    expert: ExpertOptions = dataclasses.field(default_factory=ExpertOptions)
    stem_kernel_size: int = option(3, 'of the first convolution', at_least=1)
    stem_padding: int = option(1, 'of the first convolution', at_least=0)


class ExpertCNN(nnx.Module):
    """The expert-branch CNN. The document names the parts but not the kernel sizes and the stem's
    padding; the defaults are the usual ones."""

    def __init__(self, options: ExpertCNNOptions, **types: Unpack[Types]):
        size, padding, width = options.stem_kernel_size, options.stem_padding, options.width
        self.image_shape = image_shape(options.image_shape, at_least=max(1, size - 2 * padding))
        self.stem = Conv(self.image_shape[-1], width, size, padding=padding, **types)
        self.stem_norm = BatchNorm(width, **types)
        self.blocks = nnx.List(
            [ExpertLayer(width, width, options.expert, **types) for _ in range(options.blocks)]
        )
        self.head = init.linear(width, options.num_classes, **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        check_images(images, self.image_shape)
        x = nnx.relu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))
