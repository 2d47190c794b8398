"""The summary of a finished run: summary.json and the last lines printed."""

import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

import flaxnets
from train import config as options
from train import provenance
from train.checkpointing import resume
from train.checkpointing.best import best_row
from train.checkpointing.checkpoints import Checkpoints
from train.checkpointing.meta import versions
from train.config import ConfigDict
from train.experiment import Experiment
from train.progress import duration
from train.reporting.console import spread
from train.state import TrainState
from train.workdir import read_summary

# Percent; `milestones` says when each was reached.
ACCURACIES = (50, 60, 70, 80, 90, 95, 98, 99)


def finished(workdir: pathlib.Path, config: ConfigDict) -> dict[str, Any] | None:
    """The summary of a run that has made all its epochs, or was ended by `stop.patience`; else None.

    Raises:
        UserError: the run has made more epochs than the config has.
    """
    summary = read_summary(workdir)
    if summary and summary['epochs'] > config.epochs:
        raise resume.too_few_epochs(workdir, config, summary['epochs'])
    stopped = summary.get('stopped_by_patience') == config.stop.patience > 0
    return summary if summary and (summary['epochs'] == config.epochs or stopped) else None


def create(
    exp: Experiment,
    checkpoints: Checkpoints,
    state: TrainState,
    history: list[dict[str, Any]],
    scores: dict[str, Any] | None,
) -> dict[str, Any]:
    """The summary of a run that ends with `state`.

    `scores` are the state's on the split that is evaluated after each epoch, if this process has computed
    them. With validation images the test images are used only here: for the last state, and for the best one.
    """
    best = best_row(history, exp.eval_split, exp.config.checkpoint.metric)
    best_scores = {f'best_{exp.eval_split}_accuracy': best[f'{exp.eval_split}_accuracy']}
    if exp.eval_split == 'validation':
        checkpoints.wait()
        chosen = checkpoints.restore(state, checkpoints.find('best'))
        best_scores['best_test_accuracy'] = exp.evaluate(chosen, 'test')['accuracy']
    if exp.eval_split == 'validation' or scores is None:
        scores = exp.evaluate(state, 'test')
    last = history[-1]
    seconds = statistics.median(row['seconds'] for row in history)
    replicas = options.replicas(exp.config)
    return {
        'model': exp.config.model.name,
        'parameters': flaxnets.count_parameters(exp.model),
        'published_parameters': flaxnets.count_parameters(exp.model, published=True),
        'epochs': last['epoch'],
        'stopped_by_patience': exp.config.stop.patience if last['epoch'] < exp.config.epochs else 0,
        'steps': last['step'],
        'train_loss': last['train_loss'],
        'train_accuracy': last['train_accuracy'],
        'test_loss': scores['loss'],
        'test_accuracy': scores['accuracy'],
        **({'test_top5_accuracy': scores['top5_accuracy']} if 'top5_accuracy' in scores else {}),
        **{key: last[key] for key in ('train_set_loss', 'train_set_accuracy') if key in last},
        **best_scores,
        'best_epoch': best['epoch'],
        'macro_f1': scores['macro_f1'],
        'class_names': list(exp.sets['test'].class_names),
        'class_accuracy': scores['class_accuracy'],
        'confusion': scores['confusion'],
        **milestones(history, exp.eval_split),
        'seconds_per_epoch': seconds,
        'training_seconds': sum(row['seconds'] for row in history),
        'images_per_second': replicas * len(exp.sets['train']) / max(seconds, 1e-9),
        'peak_memory_bytes': exp.devices.peak_memory(),
        'devices': exp.devices.describe(),
        'command': provenance.command(),
        'commit': provenance.commit(),
        'versions': versions(),
        **(of_replicas(exp.config, scores, best, last, exp.eval_split) if replicas > 1 else {}),
    }


def of_replicas(
    config: ConfigDict, scores: dict[str, Any], best: dict[str, Any], last: dict[str, Any], eval_split: str
) -> dict[str, Any]:
    """Standard deviations over the replicas, whose means the other numbers are, and each replica's own."""
    key = f'best_{eval_split}_accuracy'
    each = []
    for i, row in enumerate(scores['replicas']):
        alone = options.replica(config, i)
        each.append(
            {
                'seed': alone.seed,
                'learning_rate': alone.optimizer.learning_rate,
                'train_loss': last['replicas'][i]['train_loss'],
                key: best['replicas'][i][f'{eval_split}_accuracy'],
                **{f'test_{name}': row[name] for name in ('loss', 'accuracy')},
                **{name: row[name] for name in ('macro_f1', 'class_accuracy', 'confusion')},
            }
        )
    return {
        'test_accuracy_sd': scores['accuracy_sd'],
        'test_loss_sd': scores['loss_sd'],
        'macro_f1_sd': scores['macro_f1_sd'],
        f'{key}_sd': best[f'{eval_split}_accuracy_sd'],
        'replicas': each,
    }


def milestones(history: Sequence[dict[str, Any]], split: str) -> dict[str, Any]:
    """The first epoch to reach 50, 60, ... 98, 99% accuracy on the split, and where over-fitting begins.

    `overfitting_from_epoch` is the first of the epochs, up to the last one, of which each has a higher
    loss on the split than the epoch before; None where the last epoch's loss is not higher.
    """
    accuracies = [row[f'{split}_accuracy'] for row in history]
    losses = [row[f'{split}_loss'] for row in history]
    reached = {
        str(goal): next((row['epoch'] for row, a in zip(history, accuracies, strict=True) if a >= goal), None)
        for goal in ACCURACIES
    }
    rising = 0
    while rising < len(losses) - 1 and losses[-1 - rising] > losses[-2 - rising]:
        rising += 1
    return {
        'epochs_to_accuracy': reached,
        'overfitting_from_epoch': history[-rising]['epoch'] if rising else None,
    }


def score_line(summary: dict[str, Any]) -> str:
    """The test scores in a line."""
    accuracy, loss, f1 = (
        spread(summary, key, digits)
        for key, digits in (('test_accuracy', 2), ('test_loss', 4), ('macro_f1', 2))
    )
    return f'test accuracy {accuracy}%, loss {loss}, macro F1 {f1}%'


def last_lines(summary: dict[str, Any], config: ConfigDict, workdir: pathlib.Path) -> list[str]:
    """What a run prints at its end, before its report: the scores, of each replica too, and its files."""
    lines = [
        f'seed {one["seed"]}, learning rate {one["learning_rate"]:g}: {score_line(one)}'
        for one in summary.get('replicas', ())
    ]
    if patience := summary['stopped_by_patience']:
        scored = f'{"validation" if config.data.validation else "test"} {config.checkpoint.metric}'
        lines.insert(
            0,
            f'stopped after {summary["epochs"]} of {config.epochs} epochs: no better '
            f'{scored.replace("_", " ")} for {patience}',
        )
    events = ', TensorBoard events' if config.log.tensorboard else ''
    return [
        *lines,
        f'{score_line(summary)}, trained in {duration(summary["training_seconds"])}',
        f'summary.json, metrics.jsonl, checkpoints/{events} in {workdir}',
    ]


def finished_lines(workdir: pathlib.Path, summary: dict[str, Any]) -> list[str]:
    """What a run prints that was finished before."""
    more = 'stop.patience' if summary.get('stopped_by_patience') else 'epochs'
    page = workdir / 'report' / 'index.html'
    return [
        f'{workdir} is finished: {summary["epochs"]} epochs, {score_line(summary)}',
        f'To continue, raise --config.{more}; to start again, choose another --workdir.',
        *([f'report      {page}'] if page.exists() else []),
    ]
