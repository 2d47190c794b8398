"""What a run prints about its images before it starts."""

from collections.abc import Mapping, Sequence

import numpy as np

from flaxnets.errors import UserError
from train.data.imageset import ImageSet

SHOWN = 12  # classes


def facts(sets: Mapping[str, ImageSet]) -> dict[str, str]:
    """Lines by their names: sizes, where each split comes from, and how many images each class has."""
    first = next(iter(sets.values()))
    sizes = ', '.join(f'{len(images):,} {split}' for split, images in sets.items())
    shape = 'x'.join(map(str, first.image_shape))
    lines = {'data': f'{first.name}: {sizes} images, {shape}, {len(first.class_names)} classes'}
    lines |= {split: images.origin for split, images in sets.items() if images.origin}
    return lines | {'classes': classes(sets)}


def classes(sets: Mapping[str, ImageSet]) -> str:
    """Such as 'cat 40+10, dog 38+9 (train+test images)'; of many classes the first ones and the extremes."""
    names = next(iter(sets.values())).class_names
    counts = np.stack([np.bincount(images.labels, minlength=len(names)) for images in sets.values()])
    each = [f'{name} {"+".join(f"{n:,}" for n in of)}' for name, of in zip(names, counts.T, strict=True)]
    rest = counts[:, SHOWN:]
    if rest.size:
        ranges = '+'.join(
            f'{low:,}' if low == high else f'{low:,} to {high:,}' for low, high in _ranges(rest)
        )
        each[SHOWN:] = [f'{rest.shape[1]} more with {ranges}']
    return f'{", ".join(each)} ({"+".join(sets)} images)'


def check_like(images: ImageSet, class_names: Sequence[str], image_shape: Sequence[int], of: str) -> None:
    """Raise UserError unless a model made for such classes and shape can be scored on these images.

    Names that are only numbers, 0 and so on, say nothing: then the number of classes must be the same.
    """
    theirs, ours = tuple(class_names), images.class_names
    unnamed = theirs == tuple(map(str, range(len(ours))))
    for what, expected, got in (
        ('classes', theirs, ours if not unnamed else theirs),
        ('shape', tuple(image_shape), tuple(images.image_shape)),
    ):
        if expected != got:
            raise UserError(
                f'{images.name} {images.split}: expected the {what} of {of}, {_listed(expected)}, '
                f'got {_listed(got)} from {images.origin or "memory"}'
            )


def _listed(values: Sequence) -> str:
    shown = ', '.join(map(str, values[:SHOWN]))
    return f'({shown}, ...: {len(values)} in all)' if len(values) > SHOWN else f'({shown})'


def _ranges(counts: np.ndarray) -> list[tuple[int, int]]:
    return [(int(of.min()), int(of.max())) for of in counts]
