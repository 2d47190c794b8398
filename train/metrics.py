"""Scores from sums and counts, divided once."""

from typing import Any

import numpy as np


def scores(loss_sum: float, confusion: np.ndarray) -> dict[str, Any]:
    """Loss, accuracy (percent), macro F1 (percent) and accuracy per class (0 to 1).

    Args:
        loss_sum: cross entropy added over all images.
        confusion: [true class, predicted class] counts; a last column beyond the classes holds answers
            that are none of them.

    A class's accuracy is the share of its images that are recognised (its recall). Macro F1 is the
    mean of 2 tp / (2 tp + fp + fn) over the classes that occur as truth or as prediction, which is
    scikit-learn's definition.
    """
    confusion = np.asarray(confusion, np.int64)
    right = np.diag(confusion)
    true, predicted = confusion.sum(1), confusion.sum(0)[: len(confusion)]
    occurs = (true + predicted) > 0
    f1 = 2 * right[occurs] / (true + predicted)[occurs]
    return {
        'loss': float(loss_sum) / int(confusion.sum()),
        'accuracy': 100 * float(right.sum() / confusion.sum()),
        'macro_f1': 100 * float(f1.mean()),
        'class_accuracy': [float(r / t) if t else None for r, t in zip(right, true, strict=True)],
        'confusion': confusion.tolist(),
    }
