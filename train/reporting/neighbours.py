"""Pictures of the neighbours that a layer chooses: the K tokens that it takes for a few, over the image.

Before and after training. A token is a pixel, a block of pixels, or a patch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.reporting.choices import Choice
from train.reporting.figures import LIGHT, figure, show_image, styled
from train.reporting.tokens import COLOURS, queries


@styled
def draw(images: np.ndarray, columns: dict[str, Choice], names: Sequence[str], side: float = 2.4) -> Any:
    """A row for each image, under its name, and a column for each choice: the neighbours of three tokens.
    `side` in inches."""
    count = len(columns)
    drawn, axes = figure(
        width=0.25 + side * count,
        height=(side + 0.05) * len(images),
        nrows=len(images),
        ncols=count,
        squeeze=False,
    )
    for column, (title, choice) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title)
        for number, (place, image) in enumerate(zip(column, images, strict=True)):
            one(place, image, choice, number)
    for place, name in zip(axes[:, 0], names, strict=True):
        place.set_ylabel(name)
    return drawn


def one(axes: Any, image: np.ndarray, choice: Choice, number: int) -> None:
    """The image, paled, and each query's neighbours: a filled square for the query, outlined squares for its
    neighbours. Neighbours in the border lie beside the image; the class token is not drawn."""
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    down, across = height / choice.grid[0], width / choice.grid[1]
    show_image(axes, image, alpha=0.75)
    rows, columns = (place[number] for place in choice.places())
    somewhere = choice.numbers[number] >= 0
    for colour, query in zip(COLOURS, queries(choice.grid), strict=True):
        there = somewhere[query]
        corners = list(zip(columns[query][there] * across, rows[query][there] * down, strict=True))
        boxes = [Rectangle(corner, across, down) for corner in corners]
        axes.add_collection(
            PatchCollection(boxes, facecolor='none', edgecolor=LIGHT[colour], linewidth=1.6, zorder=3)
        )
        own = (query % choice.grid[1] * across, query // choice.grid[1] * down)
        axes.add_patch(Rectangle(own, across, down, color=LIGHT[colour], linewidth=0, zorder=4))
        lines = [[centre(own, across, down), centre(corner, across, down)] for corner in corners]
        axes.add_collection(LineCollection(lines, colors=LIGHT[colour], linewidths=0.7, alpha=0.8, zorder=2))
    right, below = choice.border * across, choice.border * down
    axes.set(xlim=(-right, width + right), ylim=(height + below, -below))


def centre(corner: tuple[float, float], across: float, down: float) -> tuple[float, float]:
    """The middle of a token."""
    return corner[0] + across / 2, corner[1] + down / 2
