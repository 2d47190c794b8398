"""The first layer's kernels: the patterns that a network looks for in the pixels."""

import math
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from train.reporting.figures import figure, styled

# Kernels of one pixel are not drawn, and at most this many are.
MOST = 64


def first_layer(
    model: nnx.Module, channels: int
) -> Float[np.ndarray, 'height width channels kernels'] | None:
    """The kernels of the convolution that reads images of these channels; None where there is none."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Conv):
            kernel = np.asarray(module.kernel[...], np.float32)
            if kernel.shape[2] == channels and kernel.shape[0] > 1:
                return kernel
    return None


def mosaic(
    kernels: Float[np.ndarray, 'height width channels kernels'],
) -> Float[np.ndarray, 'rows columns channels']:
    """The kernels side by side with gaps (NaN), each scaled by its own largest absolute value to [0, 1], 0.5
    being a weight of 0."""
    kernels = kernels[..., :MOST]
    height, width, channels, count = kernels.shape
    scaled = 0.5 + 0.5 * kernels / np.maximum(np.abs(kernels).max((0, 1, 2), keepdims=True), 1e-12)
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.nan)
    for number in range(count):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        picture[top : top + height, left : left + width] = scaled[..., number]
    return picture


@styled
def draw(before: np.ndarray | None, after: np.ndarray) -> Any:
    """The kernels with their initial values, where given, and after training."""
    pairs = [('before training', before)] if before is not None else []
    pairs.append(('after training', after))
    pictures = [(title, mosaic(kernels)) for title, kernels in pairs]
    ratio = pictures[0][1].shape[0] / pictures[0][1].shape[1]
    drawn, axes = figure(width=2.4 * len(pairs), height=2.3 * ratio + 0.4, ncols=len(pairs), squeeze=False)
    for place, (title, picture) in zip(axes[0], pictures, strict=True):
        if picture.shape[-1] == 3:
            gaps = np.isnan(picture[..., :1])
            place.imshow(np.concatenate([np.nan_to_num(picture), ~gaps], -1), interpolation='nearest')
        else:
            place.imshow(picture.mean(-1), cmap='PuOr', vmin=0, vmax=1, interpolation='nearest')
        place.set(xticks=[], yticks=[], title=title)
        place.grid(visible=False)
        place.spines[:].set_visible(False)
    drawn.get_layout_engine().set(wspace=0.08)
    return drawn
