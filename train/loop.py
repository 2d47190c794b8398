"""A run: data, model, resume; each epoch in chunks of steps, evaluated, reported, saved; the summary."""

import contextlib
import pathlib
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NoReturn

import numpy as np

from flaxnets.errors import UserError
from flaxnets.interop.atomic import write_json
from train import build, data, experiment, header, outcome, summary
from train import config as options
from train.checkpointing import resume
from train.checkpointing.best import best_row, out_of_patience
from train.checkpointing.checkpoints import Checkpoints
from train.checkpointing.lock import WorkdirLock
from train.checkpointing.meta import Meta
from train.checkpointing.policy import SavePolicy
from train.distributed import processes, runner
from train.experiment import Experiment
from train.metrics import EpochSums, joined, named
from train.pace import Pace
from train.reporting.console import Reporter
from train.runtime import faults, signals, unraisable
from train.runtime.signals import Stop, Stopped
from train.state import TrainState
from train.workdir import default_workdir


def run(
    config: Any, workdir: str | pathlib.Path | None = None, *, stop: Stop | None = None
) -> dict[str, Any]:
    """Trains what `config` says, or continues where `workdir` stopped, and returns the summary.

    `stop` notes the signals that come; without it, SIGTERM and SIGINT are handled here.

    Raises:
        UserError: a wrong config, missing data, a workdir of another config or in use, a loss that is not
            finite, a full disk, too little memory.
        Stopped: a signal came; the state is saved.
    """
    config = options.validate(config)
    workdir = pathlib.Path(workdir or default_workdir(config, config.model.name)).expanduser()
    if config.data.data_dir:  # so that evaluation finds the images from everywhere
        config.data.data_dir = str(pathlib.Path(config.data.data_dir).expanduser().absolute())
    unraisable.hide_late_writes()
    # Errors of this process, such as too little memory, are explained first, then those that follow from
    # the end of another process.
    with processes.explained(), faults.explained(config, workdir):
        resume.agree(workdir, config)
        config = resume.with_measured(workdir, config)
        changes = resume.match(workdir, config)
        if (finished := summary.finished(workdir, config)) is not None:
            if processes.first():
                print('\n'.join(summary.finished_lines(workdir, finished)))
            return finished
        handled = signals.signals() if stop is None else contextlib.nullcontext(stop)
        with experiment.precision(config), handled as stop:
            return train(config, workdir, stop, changes)


def train(
    config: options.ConfigDict, workdir: pathlib.Path, stop: Stop, changes: list[str]
) -> dict[str, Any]:
    """The run itself, after the checks of `run`; `changes` are lines to print."""
    # Data and model.
    validation = ['validation'] if config.data.validation else []
    sets = data.load_splits(config.data, ['train', 'test', *validation])
    fingerprints = {split: images.fingerprint for split, images in sets.items()}
    processes.agree({f'the {split} images': fingerprint for split, fingerprint in fingerprints.items()})
    exp = Experiment.create(config, sets)
    exp.check_updates()
    config = exp.config
    total = config.epochs * exp.spe
    metric = f'{exp.eval_split}_{config.checkpoint.metric}'
    # Several processes must all act at the same step when a signal reaches one of them.
    alone = processes.count() == 1

    with contextlib.ExitStack() as stack:
        # The workdir, where only one run writes at a time.
        lock = stack.enter_context(WorkdirLock(workdir, first=processes.first()))
        checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, metric=config.checkpoint.metric)
        stack.enter_context(closing(checkpoints))
        reporter = Reporter(workdir, config, quiet=not processes.first())
        stack.enter_context(closing(reporter))
        reporter.facts(**header.facts(exp, workdir))

        # Where to begin: at the newest checkpoint, or at step 0.
        card = build.model_card(config, exp.model, sets['train'])
        meta = Meta(config=config.to_dict(), card=card, data=fingerprints)
        state, step, meta, lines = resume.start(checkpoints, config, sets, exp.model, exp.initial, meta)
        resume.check_epochs(workdir, config, meta, step, exp.spe)
        begin, exp.init_digest = step, meta.init_digest
        if processes.first():
            write_json(workdir / 'config.json', config.to_dict())
        for line in [*changes, *lines]:
            reporter.line(line)
        reporter.start(meta.history, step, total, exp.devices)
        if reporter.display is not None:
            stop.say = reporter.line  # above the display, which would write over it
        exp.track = reporter.track
        policy = SavePolicy(config.checkpoint.every, steps_per_epoch=exp.spe, total=total, step=step)
        rates = exp.rates()
        pace = Pace(config.log.every, fixed=not alone)
        scores: dict[str, Any] | None = None

        def read(first: int, metrics: Any) -> None:
            """Waits for the metrics of the chunk that began at step `first`; adds up and reports them."""
            values = runner.read(metrics)
            check_finite(values, first, checkpoints, workdir)
            steps = len(values['loss'])
            meta.sums.add(values, pace.lap(steps))
            done = first + steps
            rate, curve = float(rates[done - 1]), done % config.log.every == 0
            reporter.steps(done, meta.sums, pace.steps_per_second, rate=rate, curve=curve)

        def save(scores: dict[str, Any] | None = None) -> None:
            """Starts saving this step, with the scores of this epoch if they are known."""
            lock.check()
            checkpoints.save(state, step, meta, scores)
            policy.saved(step)

        def leave() -> NoReturn:
            """Ends the run, whose state has been saved, because of a signal."""
            checkpoints.wait()
            processes.wait()  # the first one commits what all have written; none may end before that
            where = (
                f'saved at step {step} of {total} in {workdir}' if step else 'there is nothing to save yet'
            )
            raise Stopped(stop.signum, f': {where}')

        stack.enter_context(stop.interruptible(False))
        for epoch in range(meta.epoch(step, exp.spe), config.epochs):
            if out_of_patience(meta.history, exp.eval_split, config):
                break
            # Train, in chunks of steps; the metrics of each are read while the next one computes.
            first, end = epoch * exp.spe, (epoch + 1) * exp.spe
            feed = exp.images['train'].feed(exp.epoch_rows(epoch)[step - first :])
            unread: Any = None
            pace.start()
            while step < end:
                until = min(end, pace.next(step), policy.next(step))
                try:
                    # The first chunk compiles for long, and nothing is unsaved: a signal need not wait.
                    with stop.interruptible(alone and step == begin):
                        state, metrics = exp.runner.train(state, feed, until - step)
                except Stopped:
                    leave()
                if unread is not None:
                    read(*unread)
                unread, step = (step, metrics), until
                if step < end and ((stopped := signalled(stop)) or policy.due(step)):
                    read(*unread)
                    unread = None
                    save()
                    if stopped:
                        leave()
                    pace.start()
            if unread is not None:
                read(*unread)

            # Evaluate. After a signal the scores are computed when the run continues.
            row = {'epoch': epoch + 1, 'step': step} | meta.sums.row()
            row['learning_rate'] = float(rates[step - 1])
            try:
                with stop.interruptible(alone, unsaved=True):
                    scores, columns = evaluate(exp, state)
            except Stopped:
                save()
                leave()

            # Report.
            row = joined(row, columns) | meta.sums.speed()
            meta.history.append(row)
            meta.sums = EpochSums()
            lock.check()
            reporter.epoch(row, config.epochs)

            # Save where it is due, and the best at once.
            best = best_row(meta.history, exp.eval_split, config.checkpoint.metric)
            meta.best = {metric: best[metric]}
            stopped = signalled(stop)
            if stopped or policy.due(step) or best is row:
                save(scores)
            if stopped:
                leave()

        # Finish.
        try:
            with stop.interruptible(alone):
                result = summary.create(exp, checkpoints, state, meta.history, scores)
            reporter.summary(result)
            for line in summary.last_lines(result, config, workdir):
                reporter.line(line)
            if config.log.report:
                reporter.stage('drawing the report')
                with stop.interruptible(alone):
                    said = outcome.finish(exp, state, result, meta.history, workdir)
                reporter.pictures(workdir / 'report', step)
                reporter.line(said)
        except Stopped:
            leave()
        return result


def evaluate(exp: Experiment, state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """(scores of `exp.eval_split`, columns of metrics.jsonl with them and the other scores asked for)."""
    scores = exp.evaluate(state, exp.eval_split)
    kept = [key for key in ('loss', 'accuracy', 'macro_f1', 'top5_accuracy') if key in scores]
    columns = named(scores, exp.eval_split, kept)
    if exp.config.evaluate_train_set:
        whole = exp.evaluate(state, 'train')
        columns = joined(columns, named(whole, 'train_set', ('loss', 'accuracy')))
    if exp.config.optimizer.ema:
        averaged = exp.evaluate(state, exp.eval_split, ema=True)
        columns = joined(columns, named(averaged, f'ema_{exp.eval_split}', ('loss', 'accuracy')))
    return scores, columns


def check_finite(
    values: Mapping[str, np.ndarray], first: int, checkpoints: Checkpoints, workdir: pathlib.Path
) -> None:
    """Raises a `UserError` for a loss or gradient that is not finite, in the steps from `first` on."""
    for i, (loss, norm) in enumerate(zip(values['loss'], values['gradient_norm'], strict=True)):
        if np.isfinite(loss).all() and np.isfinite(norm).all():
            continue
        checkpoints.wait()
        steps = checkpoints.steps()
        last = f'the last good checkpoint is step {steps[-1]}' if steps else 'there is no checkpoint yet'
        raise UserError(
            f'training diverged at step {first + i}: loss {np.asarray(loss).tolist()}; {last} in {workdir}. '
            'Try a lower --config.optimizer.learning_rate or --config.optimizer.clip_norm=1'
        )


def signalled(stop: Stop) -> bool:
    """Whether a signal has come, to any of the processes. All of them get the same answer."""
    stop.signum = processes.largest(stop.signum)
    return bool(stop.signum)
