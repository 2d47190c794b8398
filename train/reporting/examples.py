"""Which images a report shows: mistakes, predictions for each class, samples, chosen by probabilities."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from train.reporting.sheets import Tile

Labels = Int[np.ndarray, ' images']
Probabilities = Float[np.ndarray, 'images classes']


def confident_mistakes(labels: Labels, probabilities: Probabilities, count: int = 12) -> list[int]:
    """Indices of the misclassified images with the most probable predictions, the most probable first."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    return wrong[np.argsort(-confidence, kind='stable')][:count].tolist()


def per_predicted_class(
    labels: Labels, probabilities: Probabilities, *, each: int = 2
) -> dict[int, tuple[list[int], list[int]]]:
    """For each class, the first `each` images wrongly and the first `each` correctly predicted as it.

    There are fewer if the model predicts the class less often. Source: the pictures of document 001.
    """
    predicted = probabilities.argmax(1)
    found = {}
    for number in range(probabilities.shape[1]):
        answers = predicted == number
        wrong, correct = answers & (labels != number), answers & (labels == number)
        found[number] = tuple(np.flatnonzero(mask)[:each].tolist() for mask in (wrong, correct))
    return found


def samples(labels: Labels, *, each: int = 2, most: int = 20) -> list[int]:
    """The first `each` images of every class, class by class; of `most` images at most, at least one per
    class as long as that lasts."""
    each = max(1, min(each, most // max(len(np.unique(labels)), 1)))
    of_class = [np.flatnonzero(labels == number)[:each] for number in np.unique(labels)]
    return np.concatenate(of_class)[:most].tolist()


def answered(
    index: int,
    image: np.ndarray,
    label: int,
    probabilities: Float[np.ndarray, ' classes'],
    class_names: Sequence[str],
) -> Tile:
    """Image number `index` with its predicted and its true label and the probabilities of both."""
    predicted = int(probabilities.argmax())
    name = class_names[predicted] if predicted < len(class_names) else f'output {predicted}'
    answer, truth = (percent(probabilities[number]) for number in (predicted, label))
    if predicted == label:
        return Tile(image, (f'{name} {answer}', 'correct'), 'correct', f'image {index}')
    lines = (f'{name} {answer}', f'true: {class_names[label]} {truth}')
    return Tile(image, lines, 'wrong', f'image {index}')


def percent(probability: float) -> str:
    """A probability behind a class, whose name may be a number too."""
    return f'({100 * probability:.1f}%)'
