"""Options of the framework's layers for tokens, and the heads that all of them have."""

import dataclasses

from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers.framework.bordered_map import evenly
from flaxnets.layers.framework.sampling import Sample, SamplingOptions
from flaxnets.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenLayerOptions(SamplingOptions):
    """Options of the layers that mix tokens, `[B, T, width] -> [B, T, width]`."""

    heads: int = option(1, 'heads, each on its own channels; a divisor of the width', at_least=1)
    dropout: float = option(0.1, 'rate in attention and MLPs')
    num_samples: int = option(32, 'random candidates, or evenly spread ones; fewer tokens: all', at_least=1)
    similarity: str = option(
        'matmul',
        'of a key and a query; matmul: their product divided by the root of the channels',
        choices=('matmul', 'cosine', 'euclidean'),
    )
    convolution: str = option(
        'depthwise', 'over the neighbours', choices=('depthwise', 'standard', 'depthwise-separable')
    )
    softmax: bool = option(True, 'weight neighbours by the softmax of the scores, not by the scores')
    coordinates: bool = option(False, "each token's place as one more channel; with convolution=standard")
    oversight: bool = option(
        True, "read each head's sums [tokens, channels] as [channels, tokens], as the published code does"
    )
    ratio: float = option(0.5, 'share of the channels that branch_conv gives to ConvNN')
    kernel_size: int = option(3, 'of the convolution along the tokens in branch_conv', at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coordinates and self.convolution != 'standard':
            raise UserError(
                f"model.convolution: expected 'standard' beside coordinates, got {self.convolution!r}"
            )

    def channels(self, width: int) -> int:
        """Those of one head.

        Raises:
            UserError: heads that do not divide the width.
        """
        if width % self.heads:
            raise UserError(f'model.heads: expected a divisor of the {width} channels, got {self.heads}')
        return width // self.heads

    def sample(self, tokens: int) -> Sample:
        """The candidates among so many tokens.

        Raises:
            UserError: fewer of them than neighbours.
        """
        sample = Sample(tokens)
        if self.sampling == 'random' and self.num_samples <= tokens:
            sample = Sample(tokens, drawn=self.num_samples)
        elif self.sampling == 'grid' and self.num_samples <= tokens:
            sample = Sample(tokens, fixed=tuple(map(int, evenly(tokens, self.num_samples))))
        sample.check(self.num_neighbors, f'{tokens} tokens')
        return sample


def into_heads(x: Float[Array, 'batch tokens width'], heads: int) -> Float[Array, 'images tokens channels']:
    """The heads of an image one after the other, as images of their own."""
    batch, tokens, width = x.shape
    split = x.reshape(batch, tokens, heads, width // heads).swapaxes(1, 2)
    return split.reshape(batch * heads, tokens, width // heads)


def out_of_heads(x: Float[Array, 'images tokens channels'], heads: int) -> Float[Array, 'batch tokens width']:
    """Inverse of `into_heads`."""
    images, tokens, channels = x.shape
    merged = x.reshape(images // heads, heads, tokens, channels).swapaxes(1, 2)
    return merged.reshape(images // heads, tokens, heads * channels)


def joined_heads(
    x: Float[Array, 'images tokens channels'], options: TokenLayerOptions
) -> Float[Array, 'batch tokens width']:
    """The heads side by side, with or without the published oversight."""
    if options.oversight:
        x = x.reshape(len(x), x.shape[2], x.shape[1]).swapaxes(1, 2)
    return out_of_heads(x, options.heads)
