"""What a run says of its images before it starts."""

from collections.abc import Mapping

import numpy as np

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


def _ranges(counts: np.ndarray) -> list[tuple[int, int]]:
    return [(int(of.min()), int(of.max())) for of in counts]
