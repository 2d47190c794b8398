"""A ConvNN layer and a convolution (Kang and Farias, arXiv 2511.14137): neighbours in content and in space.

    out = Conv1x1([ConvNN(x); Conv3x3(x)])

Both branches read all channels of x. A share of the output's channels, the ratio, comes from the ConvNN
layer, rounded down; at 0 and at 1 only one branch is left.
"""

from typing import Any, Unpack

from flax import nnx
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers.candidates import Indices, applied, draws
from flaxnets.layers.conv import Conv, side_by_side
from flaxnets.layers.framework.convnn2d import ConvNN2d
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.init import Types


def share_of(total: int, ratio: float | int) -> int:
    """`ratio` of `total` channels, rounded down.

    Raises:
        UserError: a ratio outside [0, 1], or one between that leaves a branch without channels.
    """
    if not 0 <= ratio <= 1:
        raise UserError(f'model.ratio: expected a share of the channels from 0 to 1, got {ratio}')
    share = int(ratio * total)
    if 0 < ratio < 1 and share == 0:
        raise UserError(
            f'model.ratio: expected 0, 1 or a share that leaves both branches channels of the {total} there '
            f'are, got {ratio}'
        )
    return share


class Branching2d(nnx.Module):
    """The layer of this file, `[B, H, W, C_in] -> [B, H, W, C_out]`.

    Args:
        nearest: the ConvNN branch's layer, `ConvNN2d` or `ConvNN2dAttn`.

    Raises:
        UserError: what `share_of` and the ConvNN layer refuse.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        ratio: float | int,
        options: ConvNN2dOptions,
        nearest: Any = ConvNN2d,
        **types: Unpack[Types],
    ):
        width = share_of(out_features, ratio)
        self.nearest = nearest(in_features, width, image_size, options, **types) if width else None
        self.conv = Conv(in_features, out_features - width, **types) if width < out_features else None
        self.mix = Conv(out_features, out_features, 1, **types)

    @property
    def draws_candidates(self) -> bool:
        """Whether a call needs `rngs` or `candidates`."""
        return draws(self.nearest)

    def __call__(
        self,
        x: Float[Array, 'batch height width channels'],
        *,
        candidates: Indices | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, 'batch height width out']:
        branches = []
        if self.nearest is not None:
            branches.append(applied(self.nearest, x, candidates, rngs))
        if self.conv is not None:
            branches.append(self.conv(x))
        return side_by_side(self.mix, branches)
