"""Attention maps: the weights of a transformer's heads over the image.

In a ViT they are those of the class token, from which the class is computed; in a model without one, those
of a few tokens, marked in the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import attend
from flaxnets.layers.attention import TokenAttention
from flaxnets.layers.framework.attention import Attention
from flaxnets.layers.sliced_attention import SlicedAttention
from train.reporting import watch
from train.reporting.figures import LIGHT, figure, show_image, styled
from train.reporting.tokens import COLOURS, grid_of, queries

Weights = Float[np.ndarray, 'batch heads tokens tokens']
KINDS = (SlicedAttention, TokenAttention, Attention)


def weights(model: nnx.Module, images: Float[Array, 'batch height width channels']) -> list[Weights]:
    """The attention weights of every layer, in order; empty where the model has no attention."""
    found = [heads for kind in KINDS for _, heads, _ in watch.calls(model, images, kind, 'attend')]
    return [np.asarray(attend.weights(q, k)) for q, k, _ in found]


def maps(
    layers: Sequence[Weights], image: int, shape: tuple[int, int]
) -> tuple[np.ndarray, list[str], list[str]]:
    """(maps [rows, columns, grid height, grid width], names of the rows, names of the columns) of an image.

    With a class token: a row for each block, a column for each head. Without: a row for each layer and
    head, a column for each of the marked tokens. `shape` is the image's height and width.
    """
    tokens = layers[0].shape[-1]
    grid = grid_of(tokens, shape)
    if grid is None:  # a class token in front of the patches
        grid = grid_of(tokens - 1, shape) or (1, tokens - 1)
        rows = [[head[0, 1:] for head in layer[image]] for layer in layers]
        names = [f'block {number}' for number in range(1, len(rows) + 1)]
        columns = [f'head {number}' for number in range(1, len(rows[0]) + 1)]
    else:
        rows = [[head[token] for token in queries(grid)] for layer in layers for head in layer[image]]
        heads = layers[0].shape[1]
        names = [
            f'layer {number}' + (f', head {head}' if heads > 1 else '')
            for number in range(1, len(layers) + 1)
            for head in range(1, heads + 1)
        ]
        columns = [f'token {number}' for number in range(1, len(rows[0]) + 1)]
    return np.asarray(rows).reshape(len(rows), len(columns), *grid), names, columns


@styled
def draw(
    image: np.ndarray, found: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, name: str = 'image'
) -> Any:
    """The image under its `name`, and its maps in a grid; each map is scaled to its own largest weight."""
    height, width = image.shape[:2]
    ratio = height / width
    side = min(0.62, 4.0 / len(columns)) if len(columns) > 3 else 1.1
    drawn, (left, axes) = figure(
        width=1.5 + side * len(columns) + 0.7,
        height=max(1.5, side * ratio * len(rows)) + 0.5,
        ncols=2,
        width_ratios=(1.2, side * len(columns)),
    )
    show_image(left, image)
    left.set(title=name)
    if columns[0].startswith('token'):
        mark(left, found.shape[2:], (height, width))
    mosaic, down, across = tiled(found)
    shown = axes.imshow(
        100 * mosaic, cmap='cividis', vmin=0, vmax=100, interpolation='nearest', aspect='auto'
    )
    label, ticks = numbered(rows)
    axes.set_yticks([(row + 0.5) * down - 1 for row in range(len(rows))], ticks)
    axes.set_ylabel(label)
    label, ticks = numbered(columns)
    axes.set_xticks([(column + 0.5) * across - 1 for column in range(len(columns))], ticks)
    axes.set_xlabel(label)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = drawn.colorbar(shown, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label('weight (% of the largest)')
    bar.outline.set_visible(False)
    return drawn


def numbered(names: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The axis label and the ticks of names such as 'head 1', 'head 2': what they share, and the numbers."""
    words = {name.rpartition(' ')[0] for name in names}
    if len(words) > 1:
        return '', names
    return words.pop(), [name.rpartition(' ')[2] for name in names]


def tiled(found: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Maps [rows, columns, h, w], each divided by its maximum, in one picture with gaps of one cell (NaN);
    and the distance from one to the next, down and across."""
    largest = found.max(axis=(2, 3), keepdims=True)
    scaled = found / np.where(largest > 0, largest, 1)
    padded = np.pad(scaled, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns, down, across = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(rows * down, columns * across)[:-1, :-1], down, across


def mark(axes: Any, grid: Sequence[int], shape: tuple[int, int]) -> None:
    """Numbers the tokens whose weights are shown."""
    from matplotlib.patches import Rectangle

    down, across = shape[0] / grid[0], shape[1] / grid[1]
    for number, (colour, token) in enumerate(zip(COLOURS, queries((grid[0], grid[1])), strict=True), 1):
        corner = (token % grid[1] * across, token // grid[1] * down)
        axes.add_patch(Rectangle(corner, across, down, color=LIGHT[colour]))
        box = {'facecolor': LIGHT[colour], 'pad': 1.2, 'linewidth': 0}
        axes.text(corner[0] + 2 * across, corner[1], str(number), color='white', fontsize=7, bbox=box)
