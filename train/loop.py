"""A run, top to bottom: data, model, resume, epochs of chunks, evaluation, checkpoints, summary."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import statistics
import time
from typing import Any, NoReturn

import jax

import flaxnets
from flaxnets.errors import UserError
from train import card, data, experiment
from train import config as options
from train.checkpointing import init_from, lock
from train.checkpointing.checkpoints import Checkpoints, versions, write_json
from train.checkpointing.resume import match, match_data
from train.data import pipeline
from train.distributed import processes, runner
from train.experiment import Experiment
from train.reporting.console import Reporter, duration
from train.runtime import faults, signals
from train.runtime.signals import Stop, Stopped
from train.state import TrainState

# A chunk of steps takes about so long, so that a signal does not wait for more.
CHUNK_SECONDS = 1.0
# Sums over the steps of the epoch under way; a checkpoint inside an epoch carries them.
NO_SUMS = {'loss': 0.0, 'right': 0.0, 'images': 0.0, 'steps': 0, 'last_loss': 0.0, 'seconds': 0.0}


def run(
    config: Any, workdir: str | pathlib.Path | None = None, *, stop: Stop | None = None
) -> dict[str, Any]:
    """Trains what `config` says, or continues where `workdir` stopped, and returns the summary.

    `stop` hears of signals; without one, SIGTERM and SIGINT are listened to here.

    Raises:
        UserError: a wrong config, missing data, a workdir of another config or in use, a loss that is not
            finite, a full disk, memory that does not suffice.
        Stopped: a signal came; the state is saved.
    """
    config = options.validate(config)
    workdir = pathlib.Path(workdir or options.default_workdir(config, config.model.name)).expanduser()
    # What a process suffers itself, such as too little memory, before what it suffers from another's end.
    with processes.explained(), faults.explained(config, workdir):
        agree(config, workdir)
        changes = match(workdir, config)
        if (summary := finished(workdir, config)) is not None:
            if processes.first():
                print(f'{workdir} is finished: {config.epochs} epochs, {score_line(summary)}')
                print('To train on, raise --config.epochs; to train anew, choose another --workdir.')
            return summary
        listening = signals.signals() if stop is None else contextlib.nullcontext(stop)
        with experiment.precision(config), listening as stop:
            return _run(config, workdir, stop, changes)


def _run(config: options.ConfigDict, workdir: pathlib.Path, stop: Stop, changes: list[str]) -> dict[str, Any]:
    validation = ['validation'] if config.data.validation else []
    splits = data.load_splits(config.data, ['train', 'test', *validation])
    processes.agree({f'the {split} images': images.fingerprint for split, images in splits.items()})
    exp = Experiment.create(config, splits)

    with lock.hold(workdir, first=processes.first()) as held, contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, metric=config.checkpoint.metric)
        stack.callback(checkpoints.close)
        if processes.first():
            write_json(workdir / 'config.json', config.to_dict())
        reporter = Reporter(workdir, tensorboard=config.log.tensorboard, quiet=not processes.first())
        stack.callback(reporter.close)
        introduce(exp, reporter, workdir)
        if config.deterministic:
            reporter.facts(deterministic=determinism(config))
        for change in changes:
            reporter.line(change)
        return Trainer(exp, checkpoints, reporter, held, stop).run()


def agree(config: options.ConfigDict, workdir: pathlib.Path) -> None:
    """Raises a `UserError` where processes have started with different configs, folders or versions."""
    places = ('data.data_dir', 'data.cache_dir')
    facts = {f'config.{key}': value for key, value in options.flatten(config).items() if key not in places}
    there = [str(path.name) for path in sorted((workdir / 'checkpoints').glob('*'))]
    processes.agree(facts | {'--workdir': workdir.resolve(), f'what {workdir} holds': there} | versions())


def finished(workdir: pathlib.Path, config: options.ConfigDict) -> dict[str, Any] | None:
    """The summary of a run that has made all its epochs."""
    path = workdir / 'summary.json'
    try:
        summary = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return summary if summary['epochs'] == config.epochs else None


def determinism(config: options.ConfigDict) -> str:
    """What `deterministic` does here; a `UserError` where it comes too late to do it."""
    platform = jax.default_backend()
    if platform != 'gpu':
        return f'no effect on {platform}, whose operations always are'
    if options.DETERMINISTIC_FLAG not in os.environ.get('XLA_FLAGS', ''):
        raise UserError(
            'config.deterministic: expected XLA_FLAGS to ask for it before JAX starts; start with '
            f'`python -m train`, which does, or set XLA_FLAGS={options.DETERMINISTIC_FLAG}=true'
        )
    return 'XLA runs its deterministic operations'


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
    shape = 'x'.join(map(str, train.image_shape))
    accumulation = {}
    if (batches := config.optimizer.accumulate) > 1:
        of_batch = '; batch normalisation normalises each batch by itself' if exp.initial.stats else ''
        images = batches * config.data.batch_size
        accumulation['accumulate'] = f'an update for {batches} batches, {images} images{of_batch}'
    reporter.facts(
        device=exp.devices.describe(),
        model=config.model.name + ''.join(f' {k}={v}' for k, v in options.model_options(config).items()),
        parameters=f'{ours:,}' + (f' ({published:,} published)' if published != ours else ''),
        data=f'{train.name}: {sizes} images, {shape}, {len(train.class_names)} classes',
        placement=exp.placement,
        training=f'{config.epochs} epochs of {exp.spe} steps, batch {config.data.batch_size}, '
        f'{config.optimizer.name} {config.optimizer.learning_rate:g}, {config.schedule.name} schedule',
        **accumulation,
        workdir=workdir,
    )


class Trainer:
    """The loop's own state: the TrainState, the epochs so far, the sums of the epoch under way."""

    def __init__(
        self, exp: Experiment, checkpoints: Checkpoints, reporter: Reporter, held: lock.Lock, stop: Stop
    ):
        self.exp, self.checkpoints, self.reporter, self.stop = exp, checkpoints, reporter, stop
        self.lock, self.workdir = held, held.path.parent
        self.config = exp.config
        self.total = self.config.epochs * exp.spe
        self.held_out = 'validation' if 'validation' in exp.sets else 'test'
        self.state: TrainState = exp.initial
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.sums = dict(NO_SUMS)
        self.saved = time.monotonic()
        self.saved_step = 0
        self.chunk, self.paced = 1, self.saved
        self.scores: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Trains to the end from wherever the workdir stands."""
        self.resume()
        self.reporter.history(self.history)
        self.reporter.start(self.step, self.total)
        with self.stop.interruptible(False):
            if self.step > len(self.history) * self.exp.spe and self.step % self.exp.spe == 0:
                self.end_epoch(self.step // self.exp.spe)  # stopped between an epoch and its evaluation
            while self.step < self.total:
                self.train_epoch()
        return self.finish()

    def resume(self) -> None:
        """Takes up the newest checkpoint, if there is one."""
        steps = self.checkpoints.steps()
        if not steps:
            if (self.workdir / 'metrics.jsonl').exists():
                self.reporter.line(f'{self.workdir} holds no finished checkpoint: starting from step 0')
            self.state, notes = init_from.start(self.config, self.exp.model, self.exp.initial)
            for note in notes:
                self.reporter.line(note)
            return
        meta = self.checkpoints.meta(steps[-1])
        for note in match_data(meta, self.exp.sets, steps[-1]):
            self.reporter.line(note)
        self.state = self.checkpoints.restore(self.state, steps[-1])
        self.step, self.history, self.sums = steps[-1], meta['history'], meta['sums']
        self.saved_step = self.step
        self.reporter.line(f'resumed at step {self.step} of {self.total}')

    def train_epoch(self) -> None:
        """Trains to the end of the current epoch, in chunks, reading each chunk's metrics while the
        next one computes; then evaluates, reports and saves."""
        epoch = self.step // self.exp.spe
        end = (epoch + 1) * self.exp.spe
        train = self.exp.sets['train']
        order = pipeline.epoch_order(self.config.seed, epoch, len(train))
        rows = pipeline.rows(order, self.config.data.batch_size, self.exp.devices.count)
        feed = self.exp.images['train'].feed(rows[self.step - epoch * self.exp.spe :])
        unread: Any = None
        started = time.monotonic()
        while self.step < end:
            stop = min(end, self.next_stop())
            # Until something is unsaved a signal need not wait: the first chunk compiles for long.
            nothing_unsaved = self.step == self.saved_step and processes.count() == 1
            with self.stop.interruptible(nothing_unsaved):
                self.state, metrics = self.exp.runner.train(self.state, feed, stop - self.step)
            if unread is not None:
                self.read(*unread)
            unread, self.step = (self.step, metrics), stop
            if self.step < end and ((stopped := self.stopped()) or self.save_due()):
                self.read(*unread)
                unread = None
                self.sums['seconds'] += time.monotonic() - started
                self.save(None)
                if stopped:
                    self.leave()
                started = time.monotonic()
        if unread is not None:
            self.read(*unread)
        self.sums['seconds'] += time.monotonic() - started
        self.end_epoch(epoch + 1)

    def next_stop(self) -> int:
        """Where the next chunk ends: a chunk's length on, or at a checkpoint that is due before."""
        amount, unit = options.every(self.config.checkpoint.every)
        every = self.config.log.every
        stop = min(self.step + self.chunk, (self.step // every + 1) * every)
        if unit == 'step':
            stop = min(stop, (self.step // int(amount) + 1) * int(amount))
        return stop

    def save_due(self) -> bool:
        """Whether `checkpoint.every` asks for a checkpoint at this step."""
        amount, unit = options.every(self.config.checkpoint.every)
        if self.step >= self.total:
            return True
        if unit == 'minute':
            return bool(processes.largest(time.monotonic() - self.saved >= 60 * amount))
        interval = int(amount) * (self.exp.spe if unit == 'epoch' else 1)
        return self.step % interval == 0

    def read(self, first: int, metrics: Any) -> None:
        """Adds a chunk's metrics to the epoch's sums; stops the run where they are not finite."""
        values = runner.read(metrics)
        for i, (loss, norm) in enumerate(zip(values['loss'], values['gradient_norm'], strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise UserError(self.diverged(first + i, float(loss)))
        # One by one, from the left: how the steps are cut into chunks must not show in the last digit.
        for key, sum_key in (('loss', 'loss'), ('right', 'right'), ('count', 'images')):
            for value in values[key]:
                self.sums[sum_key] += float(value)
        self.sums['steps'] += len(values['loss'])
        self.sums['last_loss'] = float(values['loss'][-1])
        done = first + len(values['loss'])
        rate, curve = float(self.exp.schedule(done - 1)), done % self.config.log.every == 0
        self.reporter.steps(done, self.sums['last_loss'], rate, curve=curve)
        self.pace(len(values['loss']))

    def pace(self, steps: int) -> None:
        """Adapts the chunk's length to how long `steps` took, now that their metrics are here."""
        if processes.count() > 1:  # they must cut alike, and their clocks differ
            self.chunk = self.config.log.every
            return
        now = time.monotonic()
        seconds, self.paced = (now - self.paced) / steps, now
        self.chunk = min(max(int(CHUNK_SECONDS / max(seconds, 1e-6)), 1), self.config.log.every)

    def diverged(self, step: int, loss: float) -> str:
        """The message for a loss or gradient that is not finite."""
        self.checkpoints.wait()
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
        try:
            with self.stop.interruptible(processes.count() == 1):
                scores = self.scores = self.evaluate(row)
        except Stopped:
            self.save(None)  # without its scores; they are computed when the run continues
            self.leave()
        row['seconds'] = sums['seconds']
        row['images_per_second'] = sums['images'] / max(sums['seconds'], 1e-9)
        self.history.append(row)
        self.sums = dict(NO_SUMS)
        self.lock.check()
        self.reporter.epoch(row, self.config.epochs)
        stopped = self.stopped()
        if self.save_due() or self.is_best() or stopped:
            self.save(scores)
        if stopped:
            self.leave()

    def evaluate(self, row: dict[str, Any]) -> dict[str, Any]:
        """The held-out scores; adds them, and those of the other evaluations asked for, to the row."""
        scores = self.exp.evaluate(self.state, self.held_out)
        row |= {f'{self.held_out}_{key}': scores[key] for key in ('loss', 'accuracy', 'macro_f1')}
        if self.config.evaluate_train_set:
            whole = self.exp.evaluate(self.state, 'train')
            row |= {f'train_set_{key}': whole[key] for key in ('loss', 'accuracy')}
        if self.config.optimizer.ema:
            averaged = self.exp.evaluate(self.state, self.held_out, ema=True)
            row |= {f'ema_{self.held_out}_{key}': averaged[key] for key in ('loss', 'accuracy')}
        return scores

    def is_best(self) -> bool:
        """Whether the last epoch is the best so far: its checkpoint must not hang on when one is due."""
        key = f'{self.held_out}_{self.config.checkpoint.metric}'
        best = min if self.config.checkpoint.metric == 'loss' else max
        return self.history[-1][key] == best(row[key] for row in self.history)

    def stopped(self) -> bool:
        """Whether a signal has come, to any of the processes."""
        self.stop.signum = processes.largest(self.stop.signum)
        return bool(self.stop.signum)

    def leave(self) -> NoReturn:
        """Ends the run, whose state has been saved, as a signal has asked."""
        self.checkpoints.wait()
        processes.largest(0)  # the first one commits what all have written; none may leave before
        raise Stopped(self.stop.signum, f': saved at step {self.step} of {self.total} in {self.workdir}')

    def save(self, scores: dict[str, Any] | None) -> None:
        """A checkpoint of this step; with the held-out scores at the end of an epoch."""
        key = f'{self.held_out}_{self.config.checkpoint.metric}'
        best = min if self.config.checkpoint.metric == 'loss' else max
        meta = {
            'config': self.config.to_dict(),
            'card': dataclasses.asdict(card.create(self.config, self.exp.model, self.exp.sets['train'])),
            'history': list(self.history),  # copies: orbax writes them while the next steps add to these
            'best': {key: best((row[key] for row in self.history), default=None)},
            'sums': dict(self.sums),
            'data': self.fingerprints(),
            'versions': versions(),
        }
        self.lock.check()
        self.checkpoints.save(self.state, self.step, meta, scores)
        self.saved, self.saved_step = time.monotonic(), self.step

    def fingerprints(self) -> dict[str, str]:
        """What the images of each split are."""
        return {split: images.fingerprint for split, images in self.exp.sets.items()}

    def finish(self) -> dict[str, Any]:
        """Scores the final state on the test set, writes the summary and says where everything is."""
        best = max(self.history, key=lambda row: row[f'{self.held_out}_accuracy'])
        best_scores = {f'best_{self.held_out}_accuracy': best[f'{self.held_out}_accuracy']}
        if self.held_out == 'validation':
            # Only now is the test set touched: by the final state, and by the one that validation chose.
            self.checkpoints.wait()
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
