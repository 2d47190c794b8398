"""How the expert CNN uses its experts: the mean weight of each expert for the images of each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxnets.layers.expert import Gate
from train.reporting import watch
from train.reporting.figures import LIGHT, figure, styled


def weights(
    model: nnx.Module, images: Float[Array, 'batch height width channels']
) -> Float[np.ndarray, 'blocks batch experts'] | None:
    """The gate's weights of every block for every image; None if the model has no experts."""
    found = [np.asarray(result, np.float32) for _, _, result in watch.calls(model, images, Gate, '__call__')]
    return np.stack(found) if found else None


def by_class(
    found: Float[np.ndarray, 'blocks batch experts'], labels: Int[np.ndarray, ' batch'], classes: int
) -> Float[np.ndarray, 'blocks classes experts']:
    """The mean over each class's images; NaN for a class without any."""
    means = np.full((found.shape[0], classes, found.shape[2]), np.nan)
    for number in np.unique(labels):
        means[:, number] = found[:, labels == number].mean(1)
    return means


@styled
def draw(means: Float[np.ndarray, 'blocks classes experts'], class_names: Sequence[str]) -> Any:
    """For each block a map of classes by experts; one scale from the smallest weight to the largest."""
    blocks, classes, experts = means.shape
    columns = min(4, blocks)
    rows = -(-blocks // columns)
    drawn, axes = figure(
        width=1.0 + 0.42 * experts * columns + 0.9,
        height=0.6 + rows * (0.45 + 0.17 * classes),
        nrows=rows,
        ncols=columns,
        squeeze=False,
        sharey=True,
    )
    for place in axes.flat[blocks:]:
        place.set_visible(False)
    for number, place in enumerate(axes.flat[:blocks]):
        shown = place.imshow(
            100 * means[number],
            cmap='cividis',
            vmin=100 * np.nanmin(means),
            vmax=100 * np.nanmax(means),
            aspect='auto',
            interpolation='nearest',
        )
        place.set_title(f'block {number + 1}', fontsize=9)
        place.set_xticks(range(experts), [str(expert + 1) for expert in range(experts)])
        place.set_yticks(range(classes), class_names, fontsize=8)
        place.grid(visible=False)
        place.tick_params(length=0)
        place.spines[:].set_visible(False)
    drawn.supxlabel('expert', fontsize=9, color=LIGHT['muted'])
    drawn.supylabel('true class', fontsize=9, color=LIGHT['muted'])
    bar = drawn.colorbar(shown, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label('mean weight (%)')
    bar.outline.set_visible(False)
    return drawn
