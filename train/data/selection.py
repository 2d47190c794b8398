"""Which images of a decoded split a run uses: index arrays, computed from the labels alone."""

from collections.abc import Sequence

import numpy as np

from flaxnets.errors import UserError


def stratified_mask(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask [N] that is true for about `fraction` of the images of every class, drawn by `seed` alone.

    `RandomState` because NumPy guarantees its streams for ever: the split is the same on every machine.
    """
    mask = np.zeros(len(labels), bool)
    random = np.random.RandomState(seed)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        mask[members[: round(fraction * len(members))]] = True
    return mask


def of_classes(
    labels: np.ndarray, names: Sequence[str], classes: Sequence[int | str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """(indices of the images of `classes`, their labels, their names); labels count through `classes`,
    which are numbers or names, in the order given there."""
    numbers = []
    for entry in classes:
        if entry in names:
            numbers.append(list(names).index(str(entry)))
        elif isinstance(entry, int) and 0 <= entry < len(names):
            numbers.append(entry)
        else:
            raise UserError(f'data.classes: {entry!r} is none of {", ".join(names)} or 0..{len(names) - 1}')
    if len(set(numbers)) < len(numbers):
        raise UserError(f'data.classes: every class once, got {tuple(classes)}')
    position = np.full(len(names), -1, np.int32)
    position[numbers] = np.arange(len(numbers))
    renumbered = position[labels]
    indices = np.flatnonzero(renumbered >= 0)
    return indices, renumbered[indices], tuple(names[n] for n in numbers)


def stratified(labels: np.ndarray, limit: int) -> np.ndarray:
    """Sorted indices of `limit` images, the classes in the proportions of the whole set, as far as possible.

    Of each class the first images are taken. Image number r of a class of size n has priority r / n, the
    lowest first: so a larger limit adds images to those of a smaller one, and a limit of at least the
    number of classes takes one of each.
    """
    rank, size = np.empty(len(labels)), np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members], size[members] = np.arange(len(members)), len(members)
    return np.sort(np.lexsort((labels, rank / size))[:limit])
