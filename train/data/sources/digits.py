"""The embedded data set: scikit-learn's 1,797 handwritten digits of 8x8 pixels, without a download."""

import importlib.util
import pathlib

import numpy as np

from train.data.selection import stratified_mask
from train.data.sources.records import Records

TEST_FRACTION = 0.2
SPLIT_SEED = 0  # fixed, so that the test images are always the same


class EmbeddedDigits:
    """1,797 scans in 10 classes, intensities 0..16 scaled to 0..255, a stratified fifth of them for testing.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998 (its test part).
    """

    splits = ('train', 'test')
    version = f'scikit-learn {TEST_FRACTION} {SPLIT_SEED}'

    def where(self, split: str) -> str:
        """It needs no files."""
        return 'embedded in scikit-learn'

    def read(self, split: str) -> Records:
        """The records of 'train' (1,438) or 'test' (359)."""
        rows = table()
        labels = rows[:, -1].astype(int)
        images = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        chosen = stratified_mask(labels, TEST_FRACTION, SPLIT_SEED) == (split == 'test')
        items = zip(images[chosen], map(int, labels[chosen]), strict=True)
        return Records(int(chosen.sum()), items, tuple('0123456789'), 'the embedded digits')


def table() -> np.ndarray:
    """Each digit's 64 intensities and its label, [1797, 65].

    scikit-learn's own file, where it lies today: importing scikit-learn takes a second of the first start.
    """
    (folder,) = importlib.util.find_spec('sklearn').submodule_search_locations  # type: ignore[union-attr, misc]
    file = pathlib.Path(folder) / 'datasets' / 'data' / 'digits.csv.gz'
    if file.exists():
        return np.loadtxt(file, delimiter=',')
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
