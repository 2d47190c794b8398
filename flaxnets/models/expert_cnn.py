"""Expert-branch CNN (seed 002), 90.53% on CIFAR-10.

stem: conv 3x3, norm, ReLU;  blocks x expert layer (`layers/expert.py`);  mean over the image, linear
"""

import functools

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.layers import init
from flaxnets.layers.expert import ExpertLayer
from flaxnets.layers.norm import BatchNorm


class ExpertCNN(nnx.Module):
    """The expert-branch CNN. The document names the parts but not the kernel sizes and the stem's
    padding; the defaults are the ordinary ones.

    Args:
        blocks: number of expert layers, from 0 up.
        width: channels throughout.
        experts: parallel branches in a layer.
        reduction: `width // reduction` features in the network that weighs the branches.
        kernel_size: of the branches, odd.
        stem_kernel_size, stem_padding: of the first convolution.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: options.ImageShape = (32, 32, 3),
        blocks: int = 8,
        width: int = 64,
        experts: int = 3,
        reduction: int = 8,
        kernel_size: int = 3,
        stem_kernel_size: int = 3,
        stem_padding: int = 1,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(num_classes=num_classes, width=width, stem_kernel_size=stem_kernel_size)
        options.whole(blocks=blocks, stem_padding=stem_padding, at_least=0)
        self.image_shape = options.image_shape(
            image_shape, at_least=max(1, stem_kernel_size - 2 * stem_padding)
        )
        self.stem = init.conv(
            self.image_shape[-1],
            width,
            (stem_kernel_size, stem_kernel_size),
            padding=stem_padding,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.stem_norm = BatchNorm(width, dtype=dtype, param_dtype=param_dtype)
        layer = functools.partial(
            ExpertLayer,
            width,
            width,
            experts=experts,
            reduction=reduction,
            kernel_size=kernel_size,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.blocks = nnx.List([layer() for _ in range(blocks)])
        self.head = init.linear(width, num_classes, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits."""
        options.images(images, self.image_shape)
        x = nnx.relu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))
