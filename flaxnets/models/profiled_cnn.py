"""The CNN that seed 003 profiles, and what is left after removing its costliest convolution.

    conv 16, conv 32, pool, conv 64, pool, conv 128, pool, conv 256;  linear 1024, linear 256, linear

Every convolution is 3x3 with batch normalisation and ReLU; dropout stands before the first two
linear maps. The document's softmax at the end belongs to the loss here (`loss.softmax_twice`).
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets import options
from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.norm import BatchNorm
from flaxnets.layers.pooling import max_pool


class ProfiledCNN(nnx.Module):
    """The profiled CNN.

    Args:
        pruned: leave out the first convolution.
        widths: channels of the convolutions, the first, which `pruned` removes, included. Before the
            third and each one after it the image is halved.
        hidden: features of the two linear maps before the last.
        dropout: rates before the first and the second linear map.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: options.ImageShape = (32, 32, 3),
        pruned: bool = False,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        hidden: Sequence[int] = (1024, 256),
        dropout: Sequence[float] = (0.2, 0.1),
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options.whole(num_classes=num_classes, widths=widths, hidden=hidden)
        if len(widths) < 2 or len(hidden) != 2 or len(dropout) != 2:
            raise UserError(
                'model.widths, hidden, dropout: expected at least 2 widths, 2 hidden layers and 2 rates, '
                f'got {tuple(widths)}, {tuple(hidden)}, {tuple(dropout)}'
            )
        halvings = len(widths) - 2
        height, columns, channels = self.image_shape = options.image_shape(image_shape, at_least=2**halvings)
        self.pruned = pruned
        kept = list(widths[1:] if pruned else widths)
        conv = functools.partial(init.conv, padding=1, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        linear = functools.partial(init.linear, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.convs = nnx.List([conv(a, b) for a, b in zip([channels, *kept], kept, strict=False)])
        self.norms = nnx.List([BatchNorm(b, dtype=dtype, param_dtype=param_dtype) for b in kept])
        # The position of each convolution after a pooling.
        self.pooled = range(len(kept) - halvings, len(kept))
        self.features = (height >> halvings, columns >> halvings, kept[-1])
        self.dropout1 = Dropout(dropout[0])
        self.fc1 = linear(self.features[0] * self.features[1] * self.features[2], hidden[0])
        self.dropout2 = Dropout(dropout[1])
        self.fc2 = linear(hidden[0], hidden[1])
        self.fc3 = linear(hidden[1], num_classes)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits. In training, dropout draws from `rngs.dropout()`."""
        options.images(images, self.image_shape)
        x = images
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if i in self.pooled:
                x = max_pool(x)
            x = nnx.relu(norm(conv(x)))
        x = self.dropout1(x.reshape(len(x), -1), rngs=rngs)
        x = self.dropout2(nnx.relu(self.fc1(x)), rngs=rngs)
        return self.fc3(nnx.relu(self.fc2(x)))
