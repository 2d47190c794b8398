"""VGG16 (Simonyan and Zisserman, 2015) as torchvision has it, and seed 003's pruned version.

    five stages of (conv 3x3, ReLU) x 2, 2, 3, 3, 3 and pooling;  mean to 7 x 7;  three linear maps

On 32 x 32 images one pixel is left after the stages, and the adaptive mean repeats it 49 times, so that
ImageNet's classifier fits.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.pooling import adaptive_mean_pool, max_pool

FULL: dict[str, Any] = {
    'convolutions': (2, 2, 3, 3, 3),
    'num_classes': 1000,
    'hidden': (4096, 4096),
    'dropout': (0.5, 0.5),
}
PRUNED: dict[str, Any] = {
    'convolutions': (1, 2, 3, 3, 3),
    'num_classes': 10,
    'hidden': (4096, 256),
    'dropout': (0.2, 0.1),
}


class VGG16(nnx.Module):
    """VGG16. `pruned` leaves out the second convolution, the one that the document found costliest,
    and narrows the classifier.

    Args:
        num_classes: 1000 by default, ImageNet's; pruned 10.
        widths: channels of the five stages.
        hidden: features of the first two linear maps; (4096, 4096), pruned (4096, 256).
        dropout: rates after each of them; (0.5, 0.5), pruned (0.2, 0.1).
        pooled: side of the map that the adaptive mean makes.
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        image_shape: options.ImageShape = (32, 32, 3),
        pruned: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: Sequence[int] | None = None,
        dropout: Sequence[float] | None = None,
        pooled: int = 7,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        published = PRUNED if pruned else FULL
        num_classes = published['num_classes'] if num_classes is None else num_classes
        hidden = published['hidden'] if hidden is None else hidden
        dropout = published['dropout'] if dropout is None else dropout
        options.whole(num_classes=num_classes, widths=widths, hidden=hidden, pooled=pooled)
        if (len(widths), len(hidden), len(dropout)) != (5, 2, 2):
            raise UserError(
                'model.widths, hidden, dropout: expected 5 widths, 2 hidden layers and 2 rates, '
                f'got {tuple(widths)}, {tuple(hidden)}, {tuple(dropout)}'
            )
        self.image_shape = options.image_shape(image_shape, at_least=32)
        conv = functools.partial(init.conv, padding=1, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        inputs = (self.image_shape[-1], *widths)
        self.stages = nnx.List(
            [
                nnx.List([conv(b if i else a, b) for i in range(n)])
                for a, b, n in zip(inputs, widths, published['convolutions'], strict=False)
            ]
        )
        self.features = (pooled, pooled, widths[-1])
        self.fc1 = linear(pooled**2 * widths[-1], hidden[0])
        self.dropout1 = Dropout(dropout[0])
        self.fc2 = linear(hidden[0], hidden[1])
        self.dropout2 = Dropout(dropout[1])
        self.fc3 = linear(hidden[1], num_classes)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits. In training, dropout draws from `rngs.dropout()`."""
        options.images(images, self.image_shape)
        x = images
        for stage in self.stages:
            for conv in stage:
                x = nnx.relu(conv(x))
            x = max_pool(x)
        x = adaptive_mean_pool(x, self.features[0])
        x = self.dropout1(nnx.relu(self.fc1(x.reshape(len(x), -1))), rngs=rngs)
        x = self.dropout2(nnx.relu(self.fc2(x)), rngs=rngs)
        return self.fc3(x)
