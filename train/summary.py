"""What a finished run says: summary.json and the last lines printed."""

import json
import pathlib
import statistics
from typing import Any

import flaxnets
from train.checkpointing.best import best_row
from train.checkpointing.checkpoints import Checkpoints
from train.checkpointing.meta import versions
from train.config import ConfigDict
from train.experiment import Experiment
from train.state import TrainState


def finished(workdir: pathlib.Path, config: ConfigDict) -> dict[str, Any] | None:
    """The summary of a run that has made all its epochs; None if there is none."""
    path = workdir / 'summary.json'
    try:
        summary = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return summary if summary['epochs'] == config.epochs else None


def create(
    exp: Experiment,
    checkpoints: Checkpoints,
    state: TrainState,
    history: list[dict[str, Any]],
    scores: dict[str, Any] | None,
) -> dict[str, Any]:
    """The summary of a run that ends with `state`.

    `scores` are the state's on the held-out images, if this process has computed them. With validation
    images the test images are used only here: by the last state, and by the best on the validation images.
    """
    best = best_row(history, exp.held_out, exp.config.checkpoint.metric)
    best_scores = {f'best_{exp.held_out}_accuracy': best[f'{exp.held_out}_accuracy']}
    if exp.held_out == 'validation':
        checkpoints.wait()
        chosen = checkpoints.restore(state, checkpoints.find('best'))
        best_scores['best_test_accuracy'] = exp.evaluate(chosen, 'test')['accuracy']
    if exp.held_out == 'validation' or scores is None:
        scores = exp.evaluate(state, 'test')
    last = history[-1]
    seconds = statistics.median(row['seconds'] for row in history)
    return {
        'model': exp.config.model.name,
        'parameters': flaxnets.count_parameters(exp.model),
        'published_parameters': flaxnets.count_parameters(exp.model, published=True),
        'epochs': last['epoch'],
        'steps': last['step'],
        'train_loss': last['train_loss'],
        'train_accuracy': last['train_accuracy'],
        'test_loss': scores['loss'],
        'test_accuracy': scores['accuracy'],
        **best_scores,
        'best_epoch': best['epoch'],
        'macro_f1': scores['macro_f1'],
        'class_names': list(exp.sets['test'].class_names),
        'class_accuracy': scores['class_accuracy'],
        'confusion': scores['confusion'],
        'seconds_per_epoch': seconds,
        'images_per_second': len(exp.sets['train']) / max(seconds, 1e-9),
        'devices': exp.devices.describe(),
        'versions': versions(),
    }


def score_line(summary: dict[str, Any]) -> str:
    """The test scores in a line."""
    return (
        f'test accuracy {summary["test_accuracy"]:.2f}%, loss {summary["test_loss"]:.4f}, '
        f'macro F1 {summary["macro_f1"]:.2f}%'
    )
