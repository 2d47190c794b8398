"""Which epoch is the best: one definition, for the checkpoints kept, the summary and `--checkpoint best`.

It has the highest `checkpoint.metric` (for loss the lowest) on the validation images, or without
those on the test images; of equals it is the newest, because that is the one which orbax's `BestN` keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def score(scores: Mapping[str, float], metric: str) -> float:
    """The metric as a number that is higher for better scores."""
    return -scores['loss'] if metric == 'loss' else scores[metric]


def best_step(scores: Mapping[int, Mapping[str, float]], metric: str) -> int:
    """The step, of those that `scores` has, with the best ones."""
    return max(scores, key=lambda step: (score(scores[step], metric), step))


def best_row(history: Sequence[dict[str, Any]], split: str, metric: str) -> dict[str, Any]:
    """The row of the best epoch; `split` is 'validation' or 'test'."""
    rows = {row['step']: row for row in history}
    scores = {step: {metric: row[f'{split}_{metric}']} for step, row in rows.items()}
    return rows[best_step(scores, metric)]


def out_of_patience(history: Sequence[dict[str, Any]], split: str, config: Any) -> bool:
    """Whether `stop.patience` epochs have passed since `checkpoint.metric` was better than ever before.

    An epoch that is equal to the best one so far is not better.
    """
    if not config.stop.patience:
        return False
    metric = config.checkpoint.metric
    values = [score({metric: row[f'{split}_{metric}']}, metric) for row in history]
    return bool(values) and len(values) - 1 - values.index(max(values)) >= config.stop.patience
