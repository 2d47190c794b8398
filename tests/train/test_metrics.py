"""Scores against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as sk

from train.metrics import EpochSums, scores


@pytest.mark.parametrize('classes', [2, 5, 10])
def test_against_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 200)
    predicted = np.where(rng.random(200) < 0.6, true, rng.integers(0, classes, 200))
    got = scores(50.0, sk.confusion_matrix(true, predicted, labels=range(classes)))
    assert got['loss'] == 0.25
    assert got['accuracy'] == pytest.approx(100 * sk.accuracy_score(true, predicted), abs=1e-12)
    assert got['macro_f1'] == pytest.approx(100 * sk.f1_score(true, predicted, average='macro'), abs=1e-12)
    recall = sk.recall_score(true, predicted, average=None)
    np.testing.assert_allclose(got['class_accuracy'], recall, rtol=0, atol=1e-12)


def test_a_class_without_images():
    got = scores(1.0, np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]]))
    assert got['class_accuracy'] == [1.0, 0.0, None]
    true, predicted = [0, 0, 0, 1], [0, 0, 0, 0]
    expected = sk.f1_score(true, predicted, average='macro', zero_division=0.0)
    assert got['macro_f1'] == pytest.approx(100 * expected)


def test_answers_that_are_no_class():
    got = scores(1.0, np.array([[3, 0, 1], [1, 2, 1]]))
    assert got['accuracy'] == pytest.approx(100 * 5 / 8)
    assert got['class_accuracy'] == [0.75, 0.5]
    assert got['macro_f1'] == pytest.approx(100 * (6 / 8 + 4 / 6) / 2)


def test_sums_do_not_depend_on_how_steps_are_cut():
    steps = {key: np.random.default_rng(0).random(7) for key in ('loss', 'correct', 'count')}
    one, many = EpochSums(), EpochSums()
    one.add(steps, 7.0)
    for i in range(7):
        many.add({key: values[i : i + 1] for key, values in steps.items()}, 1.0)
    assert one == many


def test_sums_of_older_checkpoints_are_read():
    old = {'loss': 1.0, 'right': 2.0, 'images': 4.0, 'steps': 1, 'last_loss': 1.0, 'seconds': 0.5}
    assert EpochSums.from_json(old).row()['train_accuracy'] == 50.0
