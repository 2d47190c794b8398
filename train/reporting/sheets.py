"""Sheets of small images with words under each: as HTML that fits any width, and as a figure."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from train.reporting.figures import LIGHT, figure, styled

# Larger images are shown at this size, which keeps the page small.
LARGEST = 96
FRAMES = {'': 'rule', 'correct': 'blue', 'wrong': 'orange'}


@dataclasses.dataclass(frozen=True)
class Tile:
    """An image [H, W, 1 or 3] uint8, the words under it, 'correct', 'wrong' or neither, and its title."""

    image: np.ndarray
    lines: Sequence[str]
    kind: str = ''
    title: str = ''


def as_html(tiles: Sequence[Tile | None]) -> str:
    """The tiles side by side; as many in a row as there is room for. None leaves a place empty."""
    parts = []
    for tile in tiles:
        if tile is None:
            parts.append('<span></span>')
            continue
        words = '<br>'.join(html.escape(line) for line in tile.lines)
        alternative = html.escape(', '.join([*filter(None, [tile.title]), *tile.lines]), quote=True)
        parts.append(
            f'<figure class="tile {tile.kind}" title="{html.escape(tile.title, quote=True)}">'
            f'<img src="{data_uri(tile.image)}" alt="{alternative}"><figcaption>{words}</figcaption></figure>'
        )
    return f'<div class="tiles">{"".join(parts)}</div>'


@styled
def as_figure(tiles: Sequence[Tile | None], columns: int = 4) -> Any:
    """The same in rows of `columns`; None leaves a place empty."""
    from matplotlib.patches import Rectangle

    rows = -(-len(tiles) // columns)
    drawn, axes = figure(width=1.5 * columns, height=1.6 * max(rows, 1))
    for number, tile in enumerate(tiles):
        if tile is None:
            continue
        x, y = number % columns, 1.08 * (number // columns)
        pixels = np.repeat(tile.image, 3, axis=-1) if tile.image.shape[-1] == 1 else tile.image
        box = (x + 0.16, x + 0.84, y + 0.68, y)
        axes.imshow(pixels, extent=box, interpolation='nearest', aspect='equal')
        frame = LIGHT[FRAMES[tile.kind]]
        axes.add_patch(Rectangle((x + 0.16, y), 0.68, 0.68, fill=False, edgecolor=frame, linewidth=2))
        for line, words in enumerate(tile.lines):
            axes.text(x + 0.5, y + 0.72 + 0.13 * line, words, ha='center', va='top', fontsize=7)
    axes.set(xlim=(0, columns), ylim=(1.08 * rows, -0.02), xticks=[], yticks=[])
    axes.axis('off')
    return drawn


def data_uri(image: np.ndarray) -> str:
    """The image [H, W, 1 or 3] uint8 as a PNG inside a data URL."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format='PNG')
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()
