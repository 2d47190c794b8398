"""The documents' figures: the JSON files next to this one, under one set of names."""

import functools
import json
import pathlib
import re
from typing import Any

FOLDER = pathlib.Path(__file__).parent
FRAMEWORK = (
    'framework'  # the runs behind arXiv 2511.14137, grouped: `reproduction.framework_suites` reads them
)
CURVES = ('train_loss', 'test_loss', 'train_accuracy', 'test_accuracy')


@functools.cache
def document(file: str) -> dict[str, Any]:
    """The content of `FILE.json`: source, recipe, runs."""
    return json.loads((FOLDER / f'{file}.json').read_text())


def files() -> list[str]:
    """The names of the documents' files, as `document` takes them."""
    return sorted(path.stem for path in FOLDER.glob('*.json') if path.stem != FRAMEWORK)


def find(file: str, **facts: Any) -> dict[str, Any]:
    """The figures of the one run that has these facts, such as model='cnn' and num_layers=2."""
    runs = document(file)['runs']
    (run,) = (run for run in runs if all(run.get(key) == value for key, value in facts.items()))
    return figures(run, document(file)['recipe'])


def figures(run: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """A run's figures as `records` names ours: accuracies in percent, times in seconds.

    The accuracies of document 004 may be words, which `interval` reads. `curve` has [epoch, value] pairs.
    """
    curve = {key: _points(run, key) for key in CURVES}
    found: dict[str, Any] = {key: points[-1][1] for key, points in curve.items() if points}
    for key in CURVES:
        if key in run and not isinstance(run[key], list):
            found[key] = run[key]
        if f'final_{key}' in run:
            found[key] = run[f'final_{key}']
    if isinstance(found.get('train_accuracy'), float) and found['train_accuracy'] <= 1:
        found['train_accuracy'] = round(100 * found['train_accuracy'], 6)  # document 003 prints shares
    if 'class_accuracy' in run:
        shares = run['class_accuracy']
        found['class_accuracy'] = list(shares.values() if isinstance(shares, dict) else shares)
    found |= {key: run[key] for key in ('parameters', 'best_test_accuracy', 'macro_f1') if key in run}
    epochs = run.get('epochs', recipe.get('epochs'))
    if 'training_seconds' in run:
        found['seconds'] = run['training_seconds']
        found['seconds_per_epoch'] = run['training_seconds'] / epochs
    elif 'seconds_per_epoch' in run:
        found['seconds_per_epoch'] = run['seconds_per_epoch']
        found['seconds'] = run['seconds_per_epoch'] * epochs
    return found | {'curve': {key: points for key, points in curve.items() if points}}


def interval(value: float | str) -> tuple[float, float]:
    """The lowest and the highest accuracy that a published one stands for: document 004 says 'over 97'."""
    if not isinstance(value, str):
        return value, value
    number = re.search(r'[\d.]+', value)
    if number is None:  # 'barely better than guessing', among ten classes
        return 10.0, 20.0
    stated = float(number.group())
    return (stated - 1, stated) if 'almost' in value else (stated, 100.0)


def _points(run: dict[str, Any], key: str) -> list[list[float]]:
    values = run.get(f'epoch_{key}', run.get(key))
    if not isinstance(values, list):
        return []
    epochs = run.get('epoch', range(1, len(values) + 1))
    first = 1 - epochs[0] if epochs[0] == 0 else 0  # document 001 counts from 0
    return [[epoch + first, value] for epoch, value in zip(epochs, values, strict=True)]
