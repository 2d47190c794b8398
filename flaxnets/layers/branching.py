"""A convolution and a ConvNN layer side by side (seed 000): near in space beside near in content.

    out = Conv1x1([ReLU(Conv3x3(x)); ReLU(ConvNN(x))])

The two widths (`channel_ratio`) add up to twice the output's; a branch of width 0 is left out.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.errors import UserError
from flaxnets.layers import init
from flaxnets.layers.candidates import Indices
from flaxnets.layers.nearest import NearestLayer
from flaxnets.options import one_of

SizeKeeping = Literal['both', 'none']


class BranchingLayer(nnx.Module):
    """Two branches, concatenated and reduced: `[B, H, W, C] -> [B, H, W, C_out]`.

    Args:
        channel_ratio: widths of the convolution and of the ConvNN branch; None: C_out each.
        The other options are `NearestLayer`'s.

    Raises:
        UserError: widths that do not add up to 2·C_out.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        image_size: tuple[int, int],
        *,
        channel_ratio: Sequence[int] | None = None,
        num_neighbors: int = 9,
        pool: str = 'all',
        num_candidates: int = 64,
        similarity: str = 'cosine',
        projection: str = 'none',
        soft: bool = False,
        shuffle: str = 'both',
        location_channels: bool = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = tuple(channel_ratio or (out_features, out_features))
        if len(widths) != 2 or min(widths) < 0 or sum(widths) != 2 * out_features:
            raise UserError(
                f'model.channel_ratio: expected two widths from 0 up that add up to {2 * out_features}, '
                f'got {widths}'
            )
        one_of('shuffle', shuffle, SizeKeeping)
        types: dict[str, Any] = {'dtype': dtype, 'param_dtype': param_dtype, 'rngs': rngs}
        self.conv = init.conv(in_features, widths[0], (3, 3), **types) if widths[0] else None
        self.nearest = (
            NearestLayer(
                in_features,
                widths[1],
                image_size,
                num_neighbors=num_neighbors,
                pool=pool,
                num_candidates=num_candidates,
                similarity=similarity,
                projection=projection,
                soft=soft,
                shuffle=shuffle,
                location_channels=location_channels,
                **types,
            )
            if widths[1]
            else None
        )
        self.reduce = init.conv(sum(widths), out_features, (1, 1), **types)

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
        return self.reduce(jnp.concatenate([nnx.relu(branch) for branch in branches], axis=-1))
