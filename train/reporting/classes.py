"""Scores class by class: accuracy as bars, the confusion matrix, precision and F1 as a table's rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.reporting.figures import LIGHT, figure, styled

# More classes than this are an image without numbers, whose numbers are in report.json.
MOST_NUMBERS = 20


def table(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Per class: images, predictions, recall (its accuracy), precision and F1, these from 0 to 1.

    None where nothing is divided: a class without images has no recall, one never predicted no precision.
    `confusion` is [true class, predicted class]; one more column counts predictions that are no class.
    """
    counts = np.asarray(confusion, np.int64)
    correct, true = np.diag(counts), counts.sum(1)
    predicted = counts.sum(0)[: len(counts)]
    rows = []
    for name, hits, images, answers in zip(class_names, correct, true, predicted, strict=True):
        rows.append(
            {
                'class': name,
                'images': int(images),
                'predicted': int(answers),
                'recall': share(hits, images),
                'precision': share(hits, answers),
                'f1': share(2 * hits, images + answers),
            }
        )
    return rows


def share(part: Any, whole: Any) -> float | None:
    """part / whole, None of nothing."""
    return float(part / whole) if whole else None


@styled
def accuracy(class_accuracy: Sequence[float | None], class_names: Sequence[str]) -> Any:
    """A bar for each class with its accuracy in percent."""
    drawn, axes = figure(height=max(1.6, 0.6 + 0.24 * len(class_names)))
    values = [100 * (value or 0) for value in class_accuracy]
    axes.barh(range(len(values)), values, color=LIGHT['blue'], height=0.7)
    for row, (value, known) in enumerate(zip(values, class_accuracy, strict=True)):
        text = 'no images' if known is None else f'{value:.1f}'
        axes.text(value + 1, row, text, va='center', fontsize=8)
    axes.set_yticks(range(len(values)), class_names)
    axes.invert_yaxis()
    axes.set(xlabel='accuracy (%)', ylabel='class', xlim=(0, 112))
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis='y', visible=False)
    return drawn


@styled
def confusion_matrix(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> Any:
    """True classes down, predicted classes across; in a cell the count and its share of the true class."""
    counts = np.asarray(confusion, np.int64)
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    columns = [*class_names, 'none'][: counts.shape[1]]
    numbers = len(columns) <= MOST_NUMBERS
    side = 0.52 * len(columns) + 1.2 if numbers else 6.0
    drawn, axes = figure(width=max(side, 3.6), height=max(side, 3.2))
    axes.grid(visible=False)
    if numbers:
        for (row, column), count in np.ndenumerate(counts):
            cell(axes, row, column, count, rates[row, column])
        turn = (
            {'rotation': 40, 'ha': 'right', 'rotation_mode': 'anchor'} if max(map(len, columns)) > 3 else {}
        )
        axes.set_xticks(range(len(columns)), columns, **turn)
        axes.set_yticks(range(len(class_names)), class_names)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(counts) - 0.5, -0.5), aspect='equal')
    else:
        shown = axes.imshow(100 * rates, cmap='cividis', vmin=0, vmax=100, interpolation='nearest')
        drawn.colorbar(shown, ax=axes, label="share of the true class's images (%)", shrink=0.8)
    axes.set(xlabel='predicted class', ylabel='true class')
    return drawn


def cell(axes: Any, row: int, column: int, count: Any, rate: Any) -> None:
    """A square whose strength is the rate: blue where the answer is correct, orange where it is not."""
    from matplotlib.patches import Rectangle

    colour = LIGHT['blue' if row == column else 'orange']
    place = (column - 0.48, row - 0.48)
    axes.add_patch(Rectangle(place, 0.96, 0.96, facecolor=colour, alpha=0.6 * rate**0.5, linewidth=0))
    if count:
        axes.text(column, row - 0.14, f'{count}', ha='center', va='center', fontsize=8)
        axes.text(column, row + 0.22, f'{100 * rate:.1f}%', ha='center', va='center', fontsize=6)
    else:
        axes.text(column, row, '0', ha='center', va='center', fontsize=7, color=LIGHT['muted'])
