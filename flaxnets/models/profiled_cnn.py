"""The CNN that document 003 profiles, and the same without its most expensive convolution.

    conv 16, conv 32, pool, conv 64, pool, conv 128, pool, conv 256;  linear 1024, linear 256, linear

Every convolution is 3x3 with batch normalisation and ReLU; dropout comes before the first two
linear layers. The document's softmax at the end belongs to the loss here (`loss.softmax_twice`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.conv import Conv
from flaxnets.layers.dropout import Dropout
from flaxnets.layers.init import Types
from flaxnets.layers.norm import BatchNorm
from flaxnets.layers.pooling import max_pool
from flaxnets.options import ModelOptions, check_images, image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfiledCNNOptions(ModelOptions):
    """Options of the profiled CNN."""

    pruned: bool = option(False, 'leave out the first convolution')
    widths: Sequence[int] = option(
        (16, 32, 64, 128, 256),
        'channels of the convolutions, the pruned one included',
        at_least=1,
    )
    hidden: Sequence[int] = option((1024, 256), 'features of two linear layers', at_least=1, length=2)
    dropout: Sequence[float] = option((0.2, 0.1), 'rates before the first and second linear layer', length=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) < 2:
            raise UserError(f'model.widths: expected at least 2, got {tuple(self.widths)}')


class ProfiledCNN(nnx.Module):
    """The profiled CNN; before the third convolution and each one after it the image is halved."""

    def __init__(self, options: ProfiledCNNOptions, **types: Unpack[Types]):
        halvings = len(options.widths) - 2
        height, columns, channels = self.image_shape = image_shape(options.image_shape, at_least=2**halvings)
        kept = list(options.widths[1:] if options.pruned else options.widths)
        self.convs = nnx.List(
            [Conv(a, b, padding=1, **types) for a, b in zip([channels, *kept], kept, strict=False)]
        )
        self.norms = nnx.List([BatchNorm(b, **types) for b in kept])
        # The position of each convolution after a pooling.
        self.pooled = range(len(kept) - halvings, len(kept))
        self.features = (height >> halvings, columns >> halvings, kept[-1])
        first, second = options.hidden
        self.dropout1 = Dropout(options.dropout[0])
        self.fc1 = init.linear(self.features[0] * self.features[1] * self.features[2], first, **types)
        self.dropout2 = Dropout(options.dropout[1])
        self.fc2 = init.linear(first, second, **types)
        self.fc3 = init.linear(second, options.num_classes, **types)

    def __call__(
        self, images: Float[Array, 'batch height width channels'], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, 'batch classes']:
        """Logits. In training, dropout draws from `rngs.dropout()`."""
        check_images(images, self.image_shape)
        x = images
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if i in self.pooled:
                x = max_pool(x)
            x = nnx.relu(norm(conv(x)))
        x = self.dropout1(x.reshape(len(x), -1), rngs=rngs)
        x = self.dropout2(nnx.relu(self.fc1(x)), rngs=rngs)
        return self.fc3(nnx.relu(self.fc2(x)))
