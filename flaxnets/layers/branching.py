"""A convolution and a ConvNN layer in parallel (document 000): neighbours in space and neighbours in content.

    out = Conv1x1([ReLU(Conv3x3(x)); ReLU(ConvNN(x))])

The two widths (`channel_ratio`) add up to twice the output's; a branch of width 0 is left out.
"""

import dataclasses
from collections.abc import Sequence
from typing import Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers.candidates import Indices
from flaxnets.layers.conv import Conv, side_by_side
from flaxnets.layers.init import Types
from flaxnets.layers.nearest import NearestLayer, NearestOptions
from flaxnets.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchingOptions(Options):
    """Options of the branching layer: its own, and those of its ConvNN branch."""

    channel_ratio: Sequence[int] | None = option(
        None, "channels of the convolution and of the ConvNN branch; none: the output's each", kind=(int,)
    )
    nearest: NearestOptions = dataclasses.field(default_factory=NearestOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nearest.shuffle not in ('both', 'none'):
            raise UserError(
                f"model.shuffle: expected one of 'both', 'none', got {self.nearest.shuffle!r}; the branches "
                'keep the size of the image'
            )


class BranchingLayer(nnx.Module):
    """Two branches, concatenated and reduced: `[B, H, W, C] -> [B, H, W, C_out]`.

    Raises:
        UserError: widths that do not add up to 2·C_out.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        options: BranchingOptions,
        **types: Unpack[Types],
    ):
        widths = tuple(options.channel_ratio or (out_features, out_features))
        if len(widths) != 2 or min(widths) < 0 or sum(widths) != 2 * out_features:
            raise UserError(
                f'model.channel_ratio: expected two widths from 0 up that add up to {2 * out_features}, '
                f'got {widths}'
            )
        near = options.nearest
        self.conv = Conv(in_features, widths[0], **types) if widths[0] else None
        self.nearest = NearestLayer(in_features, widths[1], image_size, near, **types) if widths[1] else None
        self.reduce = Conv(sum(widths), out_features, 1, **types)

    @property
    def draws_candidates(self) -> bool:
        """Whether a call needs `rngs` or `candidates`."""
        return self.nearest is not None and self.nearest.draws_candidates

    def __call__(
        self,
        x: Float[Array, 'batch height width channels'],
        *,
        candidates: Indices | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, 'batch height width out']:
        branches = []
        if self.conv is not None:
            branches.append(self.conv(x))
        if self.nearest is not None:
            branches.append(self.nearest(x, candidates=candidates, rngs=rngs))
        return side_by_side(self.reduce, [nnx.relu(branch) for branch in branches])
