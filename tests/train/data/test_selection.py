"""Which images a limit takes: some of every class, the same ones always, and more of them for more."""

import numpy as np
import pytest
from tiny_sets import config

from train import data
from train.data.selection import stratified

LABELS = np.repeat([0, 1, 2], [60, 30, 3])  # class after class, as a folder of images lists them


@pytest.mark.parametrize(
    ('limit', 'counts'),
    [(1, [1, 0, 0]), (3, [1, 1, 1]), (31, [20, 10, 1]), (93, [60, 30, 3])],
)
def test_every_class_has_its_share(limit, counts):
    assert np.bincount(LABELS[stratified(LABELS, limit)], minlength=3).tolist() == counts


def test_a_larger_limit_adds_images():
    before = set()
    for limit in range(1, len(LABELS) + 1):
        chosen = stratified(LABELS, limit)
        assert (np.diff(chosen) > 0).all()
        assert len(chosen) == limit
        assert before < set(chosen)
        before = set(chosen)


def test_a_limit_is_the_same_for_every_seed_and_comes_last():
    for limit in (10, 37):
        chosen = config(limit=limit, classes=(3, 8))
        images = data.load(chosen, 'train')
        assert len(images) == limit
        assert abs(np.diff(np.bincount(images.labels))).max() <= 1
        assert images.fingerprint == data.load(chosen, 'train', seed=1).fingerprint
    assert data.load(config(limit=10**6), 'train').indices is None


def test_splits_loaded_together_are_those_loaded_alone():
    chosen = config(validation=0.1, limit=100)
    together = data.load_splits(chosen, ['train', 'validation', 'test'])
    assert together['train'].pixels is together['validation'].pixels
    for split, images in together.items():
        assert images.split == split
        assert images.fingerprint == data.load(chosen, split).fingerprint


@pytest.mark.parametrize(('test_limit', 'size'), [(0, 30), (12, 12)])
def test_the_test_split_may_have_a_limit_of_its_own(test_limit, size):
    splits = data.load_splits(config(limit=30, test_limit=test_limit), ['train', 'test'])
    assert {split: len(images) for split, images in splits.items()} == {'train': 30, 'test': size}
