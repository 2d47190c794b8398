"""Trains the runs that a suite does not have yet, one after the other, each in a separate process."""

import dataclasses
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flaxnets.errors import UserError
from train.reporting.console import duration
from train.reproduction import records
from train.reproduction.experiment import Experiment
from train.runtime.signals import Stopped
from train.workdir import read_summary


@dataclasses.dataclass(frozen=True)
class Job:
    """One training of an experiment: its seed, where it goes, and what the command line changes."""

    experiment: Experiment
    seed: int
    workdir: pathlib.Path
    changes: dict[str, Any]

    @property
    def name(self) -> str:
        """What progress lines call it."""
        return f'{self.experiment.name} seed {self.seed}'

    def command(self) -> list[str]:
        """The command that trains it, as a user would type it."""
        settings = self.experiment.overrides | self.changes | {'seed': self.seed}
        flags = [f'--config.{key}={value}' for key, value in settings.items()]
        return ['-m', 'train', '--config', self.experiment.config, *flags, '--workdir', str(self.workdir)]

    def done(self, folder: pathlib.Path | None) -> bool:
        """Whether `folder` has its record; without a folder, whether its run is finished."""
        if folder is None:
            return self.summary() is not None
        return records.path(folder, self.experiment.name, self.seed).exists()

    def summary(self) -> dict[str, Any] | None:
        """The run's summary once it has made all its epochs."""
        summary = read_summary(self.workdir)
        epochs = records.resolved(self.experiment, **self.changes).epochs
        return summary if summary.get('epochs') == epochs else None


def jobs(
    experiments: Iterable[Experiment],
    seeds: int,
    workdir: pathlib.Path,
    changes: dict[str, Any],
    weights: str = '',
) -> list[Job]:
    """All trainings, the first seed of every experiment before the second of any.

    Those that need `weights` start from that file.
    """
    experiments = list(experiments)
    start = {'init_from.path': weights}
    return [
        Job(
            experiment,
            seed,
            workdir / f'{experiment.name}-seed{seed}',
            changes | (start if experiment.needs_weights else {}),
        )
        for seed in range(seeds)
        for experiment in experiments
    ]


def shard(all_: list[Job], which: str) -> list[Job]:
    """Part i of n, '1/4' to '4/4': every n-th job, so that the parts take about the same time.

    Raises:
        UserError: not of that form.
    """
    i, _, n = which.partition('/')
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise UserError(f'--shard: expected I/N with I from 1 to N, such as 1/2, got {which!r}')
    return all_[int(i) - 1 :: int(n)]


def run(todo: list[Job], skipped: int, finished: Callable[[Job, dict[str, Any]], str]) -> list[str]:
    """Trains each job; returns the names of those that failed. `finished` records one and describes it.

    A failure ends that run alone. A signal is passed on to the run, which saves, and then raises `Stopped`.
    """
    failed: list[str] = []
    times: list[tuple[str, float]] = []
    for number, job in enumerate(todo, 1):
        place = f'[{number}/{len(todo)}]'
        print(f'{place} {job.name}: {shlex.join(["python", *job.command()])}', flush=True)
        started = time.monotonic()
        code = train(job)
        try:
            summary = None if code else job.summary()
            said = finished(job, summary) if summary else f'failed with exit code {code}; the others go on'
        except UserError as error:
            summary, said = None, f'no record: {error}'
        if not summary:
            failed.append(job.name)
        times.append((job.experiment.suite, time.monotonic() - started))
        left = remaining(times, [other.experiment.suite for other in todo[number:]])
        after = f', about {duration(left)} left for {len(todo) - number} runs' if number < len(todo) else ''
        print(f'{place} {job.name}: {said}, {duration(times[-1][1])}{after}', flush=True)
    print(f'{len(todo) - len(failed)} of {len(todo)} runs finished, {skipped} were finished before')
    return failed


def remaining(times: list[tuple[str, float]], suites: list[str]) -> float:
    """Seconds that runs of these suites take, each as long as the mean of its suite, else of all, so far."""
    overall = sum(seconds for _, seconds in times) / len(times)
    total = 0.0
    for suite in suites:
        own = [seconds for name, seconds in times if name == suite]
        total += sum(own) / len(own) if own else overall
    return total


def train(job: Job) -> int:
    """Runs the job's command; its exit code."""
    # In another session, so that Ctrl-C reaches it once, through this process.
    child = subprocess.Popen([sys.executable, *job.command()], start_new_session=True)
    with passing_on(child) as received:
        code = child.wait()
    if received:
        raise Stopped(received[0], f': {job.name} is saved')
    return code


@contextmanager
def passing_on(child: subprocess.Popen) -> Iterator[list[int]]:
    """Signals go to the child while this lasts; yields the list of those that came."""
    received: list[int] = []

    def handle(signum: int, frame: Any) -> None:
        received.append(signum)
        child.send_signal(signum)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield received
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
