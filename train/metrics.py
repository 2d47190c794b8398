"""Sums over the steps of an epoch, and scores from sums and counts, with one division."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class EpochSums:
    """Sums over the steps of the current epoch; a checkpoint inside an epoch stores them.

    Attributes:
        loss: the steps' losses, each the mean of a batch.
        correct: images whose label was predicted.
        images: images seen.
        steps: steps made.
        last_loss: the last step's loss; not a sum.
        seconds: time spent training, without evaluations and checkpoints.
        replicas: the sums of each of several replicas, of whose values the others here are the means.
    """

    loss: float = 0.0
    correct: float = 0.0
    images: float = 0.0
    steps: int = 0
    last_loss: float = 0.0
    seconds: float = 0.0
    replicas: list['EpochSums'] = dataclasses.field(default_factory=list)

    def add(self, values: Mapping[str, np.ndarray], seconds: float) -> None:
        """Adds the metrics of some steps, [steps] each, or [steps, replicas]."""
        if values['loss'].ndim == 2:
            self.replicas = self.replicas or [EpochSums() for _ in values['loss'][0]]
            for i, one in enumerate(self.replicas):
                one.add({key: value[:, i] for key, value in values.items()}, seconds)
            values = {key: value.mean(1) for key, value in values.items()}
        # One by one, from the left: the chunks must not change the last digit.
        for loss, correct, count in zip(values['loss'], values['correct'], values['count'], strict=True):
            self.loss += float(loss)
            self.correct += float(correct)
            self.images += float(count)
        self.steps += len(values['loss'])
        self.last_loss = float(values['loss'][-1])
        self.seconds += seconds

    def row(self) -> dict[str, Any]:
        """The means over the epoch, under their names in metrics.jsonl; accuracy in percent."""
        if self.replicas:
            return together([one.row() for one in self.replicas])
        return {
            'train_loss': self.loss / self.steps,
            'train_accuracy': 100 * self.correct / self.images,
            'last_batch_loss': self.last_loss,
        }

    def speed(self) -> dict[str, float]:
        """How long the epoch took, for metrics.jsonl."""
        images = self.images * max(len(self.replicas), 1)
        return {'seconds': self.seconds, 'images_per_second': images / max(self.seconds, 1e-9)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> 'EpochSums':
        """Reads the sums of a checkpoint; in older ones `correct` has the name `right`."""
        given = {'correct' if key == 'right' else key: value for key, value in values.items()}
        given['replicas'] = [cls.from_json(one) for one in given.get('replicas', ())]
        return cls(**given)


def scores(loss_sum: float, confusion: np.ndarray, top5: int | None = None) -> dict[str, Any]:
    """Loss, accuracy (percent), macro F1 (percent) and accuracy per class (0 to 1); top-5 accuracy
    (percent) where `top5` is given.

    Args:
        loss_sum: cross entropy added over all images.
        confusion: [true class, predicted class] counts; a last column beyond the classes counts the
            predictions that are none of them.
        top5: images whose class is among the five with the highest logits.

    A class's accuracy is the share of its images that are recognised (its recall). Macro F1 is the
    mean of 2 tp / (2 tp + fp + fn) over the classes that occur as truth or as prediction, which is
    scikit-learn's definition.
    """
    confusion = np.asarray(confusion, np.int64)
    correct = np.diag(confusion)
    true, predicted = confusion.sum(1), confusion.sum(0)[: len(confusion)]
    occurs = (true + predicted) > 0
    f1 = 2 * correct[occurs] / (true + predicted)[occurs]
    return {
        'loss': float(loss_sum) / int(confusion.sum()),
        'accuracy': 100 * float(correct.sum() / confusion.sum()),
        'macro_f1': 100 * float(f1.mean()),
        'class_accuracy': [float(c / t) if t else None for c, t in zip(correct, true, strict=True)],
        'confusion': confusion.tolist(),
    } | ({} if top5 is None else {'top5_accuracy': 100 * top5 / int(confusion.sum())})


def together(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several replicas' values as one: the mean of each number, its standard deviation under `KEY_sd`, and
    all of them under `replicas`. Confusion matrices are added; class accuracies are those of the sum."""
    found: dict[str, Any] = {}
    for key, value in each[0].items():
        if isinstance(value, int | float):
            values = [one[key] for one in each]
            found |= {key: float(np.mean(values)), f'{key}_sd': float(np.std(values, ddof=1))}
    if 'confusion' in each[0]:
        confusion = np.sum([one['confusion'] for one in each], axis=0)
        found |= {key: value for key, value in scores(0.0, confusion).items() if key not in found}
    return found | {'replicas': list(each)}


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The values of both, those of each replica too."""
    both = one | other
    if 'replicas' in one and 'replicas' in other:
        both['replicas'] = [a | b for a, b in zip(one['replicas'], other['replicas'], strict=True)]
    return both


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with each replica's values next to the others, as `KEY_replica0`."""
    each = {
        f'{key}_replica{i}': value
        for i, one in enumerate(row.get('replicas', ()))
        for key, value in one.items()
    }
    return {key: value for key, value in row.items() if key != 'replicas'} | each


def named(scores: dict[str, Any], split: str, keys: Sequence[str]) -> dict[str, Any]:
    """Some of the scores under the names they have in metrics.jsonl, `SPLIT_KEY`."""
    found = {f'{split}_{key}': scores[key] for key in keys}
    if 'replicas' in scores:
        found |= {f'{split}_{key}_sd': scores[f'{key}_sd'] for key in keys}
        found['replicas'] = [named(one, split, keys) for one in scores['replicas']]
    return found
