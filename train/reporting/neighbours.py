"""Which neighbours a ConvNN layer chooses: the K tokens that it gathers for a few tokens, over the image.

They are the results of `NearestLayer.choose`, before and after training. A token is 2 x 2 pixels if the layer
unshuffles.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxnets.layers.nearest import NearestLayer
from train.reporting import watch
from train.reporting.figures import LIGHT, figure, show_image, styled
from train.reporting.tokens import COLOURS, queries


def chosen(
    model: nnx.Module, images: Float[Array, 'batch height width channels']
) -> list[Int[np.ndarray, 'batch tokens neighbours']]:
    """For each ConvNN layer, every token's neighbours by their number, in order of similarity; the token
    itself first if it is always its own first neighbour."""
    found = []
    for (tokens, pool), ranks in watch.calls(model, images, NearestLayer, 'choose'):
        neighbours = np.moveaxis(np.asarray(ranks), 0, -1)
        if pool is not None:
            itself = np.broadcast_to(np.arange(tokens.shape[1])[:, None], (*neighbours.shape[:2], 1))
            neighbours = np.concatenate([itself, np.asarray(pool)[neighbours]], axis=-1)
        found.append(neighbours)
    return found


@styled
def draw(
    images: np.ndarray,
    before: Int[np.ndarray, 'batch tokens neighbours'] | None,
    after: Int[np.ndarray, 'batch tokens neighbours'],
    grid: tuple[int, int],
    names: Sequence[str],
) -> Any:
    """A row for each image, named by its class: its neighbours with initial values, where given, and after
    training, for three tokens."""
    columns = {'before training': before} if before is not None else {}
    columns['after training'] = after
    count = len(columns)
    drawn, axes = figure(
        width=0.25 + 2.4 * count, height=2.45 * len(images), nrows=len(images), ncols=count, squeeze=False
    )
    for column, (title, choices) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title)
        for place, image, neighbours in zip(column, images, choices, strict=True):
            one(place, image, neighbours, grid)
    for place, name in zip(axes[:, 0], names, strict=True):
        place.set_ylabel(name)
    return drawn


def one(axes: Any, image: np.ndarray, neighbours: Int[np.ndarray, 'tokens neighbours'], grid: Any) -> None:
    """The image, paled, and each query's neighbours: a filled square for the query, outlined squares for its
    neighbours."""
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    down, across = height / grid[0], width / grid[1]
    show_image(axes, image, alpha=0.75)
    for colour, query in zip(COLOURS, queries(grid), strict=True):
        corners = [(token % grid[1] * across, token // grid[1] * down) for token in neighbours[query]]
        boxes = [Rectangle(corner, across, down) for corner in corners]
        axes.add_collection(
            PatchCollection(boxes, facecolor='none', edgecolor=LIGHT[colour], linewidth=1.6, zorder=3)
        )
        own = (query % grid[1] * across, query // grid[1] * down)
        axes.add_patch(Rectangle(own, across, down, color=LIGHT[colour], linewidth=0, zorder=4))
        lines = [[centre(own, across, down), centre(corner, across, down)] for corner in corners]
        axes.add_collection(LineCollection(lines, colors=LIGHT[colour], linewidths=0.7, alpha=0.8, zorder=2))
    axes.set(xlim=(0, width), ylim=(height, 0))


def centre(corner: tuple[float, float], across: float, down: float) -> tuple[float, float]:
    """The middle of a token."""
    return corner[0] + across / 2, corner[1] + down / 2


def nearby(neighbours: Int[np.ndarray, 'batch tokens neighbours'], grid: tuple[int, int]) -> float:
    """The share of the neighbours, the token itself left out, that lie in the 3 x 3 around their token, the
    field of a convolution."""
    own = np.broadcast_to(np.arange(neighbours.shape[1])[:, None], neighbours.shape)
    others = neighbours != own
    rows = np.abs(neighbours // grid[1] - own // grid[1])[others]
    columns = np.abs(neighbours % grid[1] - own % grid[1])[others]
    return float(((rows <= 1) & (columns <= 1)).mean())
