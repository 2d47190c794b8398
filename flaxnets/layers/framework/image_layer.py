"""What stands in the place of a convolution in the framework's VGG and ResNet: one of five layers."""

import dataclasses
from typing import Any, Unpack

from flax import nnx

from flaxnets.layers.conv import Conv
from flaxnets.layers.framework.branching2d import Branching2d
from flaxnets.layers.framework.convnn2d import ConvNN2d
from flaxnets.layers.framework.convnn2d_attn import ConvNN2dAttn
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.init import Types
from flaxnets.options import Options, option

NEAREST: dict[str, Any] = {
    'convnn': ConvNN2d,
    'branching': ConvNN2d,
    'convnn_attn': ConvNN2dAttn,
    'branching_attn': ConvNN2dAttn,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageLayerOptions(Options):
    """Which layer, and the options of all of them."""

    layer: str = option('branching', 'in the place of a convolution', choices=('conv', *NEAREST))
    ratio: float = option(0.5, 'share of the channels from the ConvNN branch, beside layer=branching*')
    nearest: ConvNN2dOptions = dataclasses.field(default_factory=ConvNN2dOptions)


def image_layer(
    in_features: int,
    out_features: int,
    image_size: tuple[int, int],
    options: ImageLayerOptions,
    *,
    use_bias: bool = True,
    **types: Unpack[Types],
) -> nnx.Module:
    """The layer, `[B, H, W, C_in] -> [B, H, W, C_out]`; `use_bias` is for a plain convolution alone."""
    if options.layer == 'conv':
        return Conv(in_features, out_features, padding=1, use_bias=use_bias, **types)
    nearest, sizes = NEAREST[options.layer], (in_features, out_features, image_size)
    if options.layer.startswith('branching'):
        return Branching2d(*sizes, options.ratio, options.nearest, nearest, **types)
    return nearest(*sizes, options.nearest, **types)
