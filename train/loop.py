"""A run, top to bottom: data, model, resume, epochs of chunks, evaluation, checkpoints, summary."""

import json
import math
import pathlib
import statistics
import time
from typing import Any

import flaxnets
from flaxnets.errors import UserError
from train import config as options
from train import experiment, parallel
from train.checkpoint import Checkpoints, match, versions, write_json
from train.data import pipeline
from train.experiment import Experiment
from train.report import Reporter, duration
from train.state import TrainState

# Sums over the steps of the epoch under way; a checkpoint inside an epoch carries them.
NO_SUMS = {'loss': 0.0, 'right': 0.0, 'images': 0.0, 'steps': 0, 'last_loss': 0.0, 'seconds': 0.0}


def run(config: Any, workdir: str | pathlib.Path | None = None) -> dict[str, Any]:
    """Trains what `config` says, or continues where `workdir` stopped, and returns the summary.

    Raises:
        UserError: a wrong config, missing data, a workdir of another config, a loss that is not finite.
    """
    config = options.validate(config)
    workdir = pathlib.Path(workdir or options.default_workdir(config, config.model.name)).expanduser()
    match(workdir, config)
    if (summary := finished(workdir, config)) is not None:
        print(f'{workdir} is finished: {config.epochs} epochs, {score_line(summary)}')
        print('To train on, raise --config.epochs; to train anew, choose another --workdir.')
        return summary
    with experiment.precision(config):
        return _run(config, workdir)


def _run(config: options.ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    splits = {'train': experiment.load_split(config, 'train'), 'test': experiment.load_split(config, 'test')}
    if config.data.validation:
        splits['validation'] = experiment.load_split(config, 'validation')
    exp = Experiment.create(config, splits)

    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / 'config.json', config.to_dict())
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, metric=config.checkpoint.metric)
    reporter = Reporter(workdir, tensorboard=config.log.tensorboard)
    try:
        introduce(exp, reporter, workdir)
        return Trainer(exp, checkpoints, reporter, workdir).run()
    finally:
        reporter.close()
        checkpoints.close()


def finished(workdir: pathlib.Path, config: options.ConfigDict) -> dict[str, Any] | None:
    """The summary of a run that has made all its epochs."""
    path = workdir / 'summary.json'
    summary = json.loads(path.read_text()) if path.is_file() else None
    return summary if summary and summary['epochs'] == config.epochs else None


def score_line(summary: dict[str, Any]) -> str:
    """The end of a run in a line."""
    return (
        f'test accuracy {summary["test_accuracy"]:.2f}%, loss {summary["test_loss"]:.4f}, '
        f'macro F1 {summary["macro_f1"]:.2f}%'
    )


def introduce(exp: Experiment, reporter: Reporter, workdir: pathlib.Path) -> None:
    """What is about to happen, for the person who started it."""
    config, train = exp.config, exp.sets['train']
    ours = flaxnets.count_parameters(exp.model)
    published = flaxnets.count_parameters(exp.model, published=True)
    sizes = ', '.join(f'{len(images):,} {split}' for split, images in exp.sets.items())
    shape = 'x'.join(map(str, train.images.shape[1:]))
    reporter.facts(
        device=exp.devices.describe(),
        model=config.model.name + ''.join(f' {k}={v}' for k, v in options.model_options(config).items()),
        parameters=f'{ours:,}' + (f' ({published:,} published)' if published != ours else ''),
        data=f'{train.name}: {sizes} images, {shape}, {len(train.class_names)} classes',
        training=f'{config.epochs} epochs of {exp.spe} steps, batch {config.data.batch_size}, '
        f'{config.optimizer.name} {config.optimizer.learning_rate:g}, {config.schedule.name} schedule',
        workdir=workdir,
    )


class Trainer:
    """The loop's own state: the TrainState, the epochs so far, the sums of the epoch under way."""

    def __init__(self, exp: Experiment, checkpoints: Checkpoints, reporter: Reporter, workdir: pathlib.Path):
        self.exp, self.checkpoints, self.reporter, self.workdir = exp, checkpoints, reporter, workdir
        self.config = exp.config
        self.total = self.config.epochs * exp.spe
        self.held_out = 'validation' if 'validation' in exp.sets else 'test'
        self.state: TrainState = exp.initial
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.sums = dict(NO_SUMS)
        self.saved = time.monotonic()
        self.scores: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Trains to the end from wherever the workdir stands."""
        self.resume()
        self.reporter.history(self.history)
        self.reporter.start(self.step, self.total)
        while self.step < self.total:
            self.train_epoch()
        return self.finish()

    def resume(self) -> None:
        """Takes up the newest checkpoint, if there is one."""
        steps = self.checkpoints.steps()
        if not steps:
            return
        meta = self.checkpoints.meta(steps[-1])
        self.state = self.checkpoints.restore(self.state, steps[-1])
        self.step, self.history, self.sums = steps[-1], meta['history'], meta['sums']
        self.reporter.line(f'resumed at step {self.step} of {self.total}')

    def train_epoch(self) -> None:
        """Trains to the end of the current epoch, in chunks, reading each chunk's metrics while the
        next one computes; then evaluates, reports and saves."""
        epoch = self.step // self.exp.spe
        end = (epoch + 1) * self.exp.spe
        train = self.exp.sets['train']
        order = pipeline.epoch_order(self.config.seed, epoch, len(train))
        rows = pipeline.rows(order, self.config.data.batch_size, self.exp.devices.count)
        unread: Any = None
        started = time.monotonic()
        while self.step < end:
            stop = min(end, self.next_stop())
            chunk = rows[self.step - epoch * self.exp.spe : stop - epoch * self.exp.spe]
            self.state, metrics = self.exp.runner.train(self.state, self.exp.resident['train'], chunk)
            if unread is not None:
                self.read(*unread)
            unread, self.step = (self.step, metrics), stop
            if self.step < end and self.save_due():
                self.read(*unread)
                unread = None
                self.sums['seconds'] += time.monotonic() - started
                self.save(None)
                started = time.monotonic()
        if unread is not None:
            self.read(*unread)
        self.sums['seconds'] += time.monotonic() - started
        self.end_epoch(epoch + 1)

    def next_stop(self) -> int:
        """Where the next chunk ends: a chunk's length on, or at a checkpoint that is due before."""
        amount, unit = options.every(self.config.checkpoint.every)
        stop = self.step + self.config.log.every
        if unit == 'step':
            stop = min(stop, (self.step // int(amount) + 1) * int(amount))
        return stop

    def save_due(self) -> bool:
        """Whether `checkpoint.every` asks for a checkpoint at this step."""
        amount, unit = options.every(self.config.checkpoint.every)
        if self.step >= self.total:
            return True
        if unit == 'minute':
            return time.monotonic() - self.saved >= 60 * amount
        interval = int(amount) * (self.exp.spe if unit == 'epoch' else 1)
        return self.step % interval == 0

    def read(self, first: int, metrics: Any) -> None:
        """Adds a chunk's metrics to the epoch's sums; stops the run where they are not finite."""
        values = parallel.read(metrics)
        for i, (loss, norm) in enumerate(zip(values['loss'], values['gradient_norm'], strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise UserError(self.diverged(first + i, float(loss)))
        self.sums['loss'] += float(values['loss'].sum(dtype='float64'))
        self.sums['right'] += float(values['right'].sum(dtype='float64'))
        self.sums['images'] += float(values['count'].sum(dtype='float64'))
        self.sums['steps'] += len(values['loss'])
        self.sums['last_loss'] = float(values['loss'][-1])
        done = first + len(values['loss'])
        self.reporter.steps(done, self.sums['last_loss'], float(self.exp.schedule(done - 1)))

    def diverged(self, step: int, loss: float) -> str:
        """The message for a loss or gradient that is not finite."""
        self.checkpoints.manager.wait_until_finished()
        steps = self.checkpoints.steps()
        last = f'the last good checkpoint is step {steps[-1]}' if steps else 'there is no checkpoint yet'
        return (
            f'training diverged at step {step}: loss {loss}; {last} in {self.workdir}. '
            'Try a lower --config.optimizer.learning_rate or --config.optimizer.clip_norm=1'
        )

    def end_epoch(self, epoch: int) -> None:
        """Evaluates, adds a row to the history, reports it, and saves where due."""
        sums = self.sums
        row = {
            'epoch': epoch,
            'step': self.step,
            'train_loss': sums['loss'] / sums['steps'],
            'train_accuracy': 100 * sums['right'] / sums['images'],
            'last_batch_loss': sums['last_loss'],
            'learning_rate': float(self.exp.schedule(self.step - 1)),
        }
        scores = self.scores = self.exp.evaluate(self.state, self.held_out)
        row |= {f'{self.held_out}_{key}': scores[key] for key in ('loss', 'accuracy', 'macro_f1')}
        if self.config.evaluate_train_set:
            whole = self.exp.evaluate(self.state, 'train')
            row |= {f'train_set_{key}': whole[key] for key in ('loss', 'accuracy')}
        if self.config.optimizer.ema:
            averaged = self.exp.evaluate(self.state, self.held_out, ema=True)
            row |= {f'ema_{self.held_out}_{key}': averaged[key] for key in ('loss', 'accuracy')}
        row['seconds'] = sums['seconds']
        row['images_per_second'] = sums['images'] / max(sums['seconds'], 1e-9)
        self.history.append(row)
        self.sums = dict(NO_SUMS)
        self.reporter.epoch(row, self.config.epochs)
        if self.save_due():
            self.save(scores)

    def save(self, scores: dict[str, Any] | None) -> None:
        """A checkpoint of this step; with the held-out scores at the end of an epoch."""
        meta = {
            'config': self.config.to_dict(),
            'history': self.history,
            'sums': self.sums,
            'data': {split: images.fingerprint for split, images in self.exp.sets.items()},
            'versions': versions(),
        }
        self.checkpoints.save(self.state, self.step, meta, scores)
        self.saved = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Scores the final state on the test set, writes the summary and says where everything is."""
        best = max(self.history, key=lambda row: row[f'{self.held_out}_accuracy'])
        best_scores = {f'best_{self.held_out}_accuracy': best[f'{self.held_out}_accuracy']}
        if self.held_out == 'validation':
            # Only now is the test set touched: by the final state, and by the one that validation chose.
            self.checkpoints.manager.wait_until_finished()
            chosen = self.checkpoints.restore(self.state, self.checkpoints.find('best'))
            best_scores['best_test_accuracy'] = self.exp.evaluate(chosen, 'test')['accuracy']
            self.scores = None
        scores = self.scores or self.exp.evaluate(self.state, 'test')
        last = self.history[-1]
        seconds = statistics.median(row['seconds'] for row in self.history)
        summary = {
            'model': self.config.model.name,
            'parameters': flaxnets.count_parameters(self.exp.model),
            'published_parameters': flaxnets.count_parameters(self.exp.model, published=True),
            'epochs': last['epoch'],
            'steps': self.step,
            'train_loss': last['train_loss'],
            'train_accuracy': last['train_accuracy'],
            'test_loss': scores['loss'],
            'test_accuracy': scores['accuracy'],
            **best_scores,
            'best_epoch': best['epoch'],
            'macro_f1': scores['macro_f1'],
            'class_names': list(self.exp.sets['test'].class_names),
            'class_accuracy': scores['class_accuracy'],
            'confusion': scores['confusion'],
            'seconds_per_epoch': seconds,
            'images_per_second': len(self.exp.sets['train']) / max(seconds, 1e-9),
            'devices': self.exp.devices.describe(),
            'versions': versions(),
        }
        self.reporter.summary(summary)
        trained = duration(sum(row['seconds'] for row in self.history))
        self.reporter.line(f'{score_line(summary)}, trained in {trained}')
        self.reporter.line(
            f'summary.json, metrics.jsonl, checkpoints/ and TensorBoard events in {self.workdir}'
        )
        return summary
