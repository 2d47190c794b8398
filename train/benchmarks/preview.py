"""A picture of what augmentation does: images as stored, and below them as training sees them."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from train.data import augment
from train.data.imageset import ImageSet

# A row of the picture each.
ROWS: dict[str, dict[str, Any]] = {
    'as stored': {},
    'crop=4': {'crop': 4},
    'crop=4 reflect': {'crop': 4, 'crop_fill': 'reflect'},
    'flip': {'flip': True},
    'brightness=0.3': {'brightness': 0.3},
    'contrast=0.5': {'contrast': 0.5},
    'cutout=12': {'cutout': 12},
    'mixup=1': {'mixup': 1.0},
    'cutmix=1': {'cutmix': 1.0},
    'crop=4 flip': {'crop': 4, 'flip': True},
}
COLUMNS, SIDE, MARGIN, TEXT = 10, 80, 4, 120


def draw(images: ImageSet, off: Any, file: pathlib.Path) -> None:
    """Writes a PNG of the first images, a row for each of `ROWS`.

    `off` is config.data.augment as it is by default: all off.
    """
    pixels = jnp.asarray(images.gather(np.arange(min(COLUMNS, len(images)))))
    side = min(pixels.shape[1:3])
    picture = Image.new('RGB', (TEXT + len(pixels) * (SIDE + MARGIN), len(ROWS) * (SIDE + MARGIN)), 'white')
    pen = ImageDraw.Draw(picture)
    for row, (name, chosen) in enumerate(ROWS.items()):
        options = off.copy_and_resolve_references()
        # As large a share of a small image as these numbers are of 32 pixels.
        scaled = {k: max(chosen[k] * side // 32, 1) for k in ('crop', 'cutout') if k in chosen}
        options.update(chosen | scaled)
        top = row * (SIDE + MARGIN)
        pen.text((MARGIN, top + SIDE // 2 - 6), name, fill='black')
        for column, image in enumerate(_augmented(pixels, options, key=row)):
            shown = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
            shown = shown.resize((SIDE, SIDE), Image.Resampling.NEAREST)
            picture.paste(shown, (TEXT + column * (SIDE + MARGIN), top))
    picture.save(file, format='PNG')


def _augmented(pixels: jax.Array, options: Any, key: int) -> np.ndarray:
    """[N, H, W, C] uint8 after augmentation by `options`."""
    ones, draw = jnp.ones(len(pixels)), jax.random.key(key)
    apply = jax.jit(lambda x: augment.augment(x, ones[:, None], ones, draw, options, mean=0.5)[0])
    images = apply(pixels)
    return np.asarray(jnp.round(augment.unit(images) * 255), np.uint8)
