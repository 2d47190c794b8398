"""What a run prints; on a terminal with a live display (`display.py`). Its files are written by `logs.py`."""

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from train.checkpointing.best import best_row
from train.distributed.devices import Devices
from train.memory import megabytes
from train.metrics import EpochSums
from train.progress import Interval, duration
from train.reporting.display import Display
from train.reporting.logs import Logs
from train.runtime import streams
from train.runtime.first_step import FirstStep
from train.terminal import terminal

__all__ = ['VARYING_KEYS', 'Reporter', 'duration', 'show_scores']

# Times, memory and the command: everything that may differ between two runs of the same config.
VARYING_KEYS = (
    'seconds',
    'images_per_second',
    'seconds_per_epoch',
    'training_seconds',
    'peak_memory_bytes',
    'command',
)

# Seconds without a line, of an epoch or of another kind, after which a pipe gets one.
SILENCE = 60.0

# Classes whose confusion matrix fits on a terminal; larger ones are on the page.
LARGEST_CONFUSION = 12


class Reporter:
    """The console and the files of one run; `quiet` (all processes but the first) writes nothing."""

    def __init__(
        self, workdir: pathlib.Path, config: Any, *, quiet: bool = False, console: Console | None = None
    ):
        self.config, self.quiet = config, quiet
        self.logs = Logs(workdir, config.log)
        self.console = console or terminal(quiet=quiet)
        self.display: Display | None = None
        self.first_step: FirstStep | None = None
        self.since, self.first = time.monotonic(), 0
        self.silence = Interval(SILENCE, SILENCE)

    def facts(self, **facts: Any) -> None:
        """Lines of `name  value`, before training starts."""
        for name, value in facts.items():
            self.console.print(f'{name:<11} {value}')

    def line(self, text: str) -> None:
        """One line, above the display where there is one."""
        self.console.print(text)

    def start(self, history: list[dict[str, Any]], done: int, total: int, devices: Devices) -> None:
        """Opens the logs with the epochs so far, `history`, and on a terminal the display; announces the
        first step's compilation."""
        self.since, self.first, self.total, self.devices = time.monotonic(), done, total, devices
        if done:
            self.line(f'resumed at step {done} of {total}')
        if self.quiet:
            return
        self.logs.history(history)
        if done >= total:
            return
        self.logs.start(done, self.config.to_dict())
        self.first_step = FirstStep(program(self.config, devices))
        seconds = self.first_step.remembered
        known = '' if seconds is None else f', about {duration(max(seconds, 1))} the first time'
        if self.console.is_interactive:
            self.display = Display(self.console, done, total, self.config.epochs)
            self.display.best = self._best()
            self.display.stage(f'compiling{known}')
            self.display.start()
        else:
            self.line(f'compiling{known}')

    def steps(
        self, done: int, sums: EpochSums, steps_per_second: float, *, rate: float, curve: bool = True
    ) -> None:
        """Moves the display to `done` steps, of which `sums` are those of the epoch under way; with `curve`,
        loss and learning rate to the logs."""
        if self.first_step is not None:  # compiling does not count for the time left
            self.first_step.ended()
            self.first_step = None
            self.since, self.first = time.monotonic(), done
            self.stage('')
        if self.display is not None or self.silence.due():
            row, speed = sums.row(), sums.speed()
            images = speed['images_per_second'] * speed['seconds'] / sums.steps
            left = self._left(done)
            parts = [
                f'loss {row["train_loss"]:.4f}',
                f'accuracy {row["train_accuracy"]:.2f}%',
                f'{images * steps_per_second:,.0f} images/s',
                f'memory {megabytes(self.devices.peak_memory())}',
            ]
            if self.display is not None:
                self.display.done, self.display.left, self.display.parts = done, left, parts
            else:
                known = [] if left is None else [f'{duration(left)} left']
                self.line('  '.join([f'step {done}/{self.total}', *parts, *known]))
        if curve:
            self.logs.scalars({'step/loss': sums.last_loss, 'step/learning_rate': rate}, done)

    def stage(self, name: str) -> None:
        """Says on the display what is being done apart from training; '' for nothing."""
        if self.display is not None:
            self.display.stage(name)

    def track(self, items: Iterator[Any], name: str, total: int) -> Iterator[Any]:
        """The items in turn, with their progress on the display, or now and then in a line."""
        if self.display is not None:
            yield from self.display.track(items, name, total)
            return
        for done, item in enumerate(items):
            if self.silence.due():
                self.line(f'{name} {done}/{total}')
            yield item

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """One line for an epoch, on the console and in the logs."""
        if self.quiet:
            return
        self.logs.epoch(row)
        eval_split = eval_split_of(row)
        parts = [
            f'epoch {row["epoch"]:>{len(str(epochs))}}/{epochs}',
            f'train loss {spread(row, "train_loss", 4)}',
            f'{eval_split} accuracy {spread(row, f"{eval_split}_accuracy", 2)}%',
            f'{row["images_per_second"]:,.0f} images/s',
        ]
        if (left := self._left(row['step'])) is not None:
            parts.append(f'{duration(left)} left')
        if f'ema_{eval_split}_accuracy' in row:
            parts.insert(3, f'averaged {row[f"ema_{eval_split}_accuracy"]:.2f}%')
        if self._best_row() is row:
            parts.append('best')
        if self.display is not None:
            self.display.best = self._best()
        self.line('  '.join(parts))
        self.silence.restart()

    def summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json."""
        if not self.quiet:
            self.logs.summary(summary)

    def pictures(self, folder: pathlib.Path, step: int) -> None:
        """The report's pictures in `folder`, for TensorBoard."""
        if not self.quiet:
            self.logs.pictures(folder, step)

    def close(self) -> None:
        """Takes the display away and closes the files."""
        if self.display is not None:
            self.display.stop()
        self.logs.close()

    def _left(self, done: int) -> float | None:
        """Seconds for the steps after `done`, at the pace up to now, evaluations included."""
        made, seconds = done - self.first, time.monotonic() - self.since
        return seconds / made * (self.total - done) if made else None if done < self.total else 0.0

    def _best_row(self) -> dict[str, Any] | None:
        rows = self.logs.rows
        return best_row(rows, eval_split_of(rows[-1]), self.config.checkpoint.metric) if rows else None

    def _best(self) -> str:
        """The best epoch so far, in words."""
        if (row := self._best_row()) is None:
            return ''
        return f'best {row[f"{eval_split_of(row)}_accuracy"]:.2f}% in epoch {row["epoch"]}'


def eval_split_of(row: dict[str, Any]) -> str:
    """The split that an epoch's row has scores of."""
    return 'validation' if 'validation_accuracy' in row else 'test'


def program(config: Any, devices: Devices) -> str:
    """What decides how long the first step compiles, in a line."""
    parts = (config.model.to_dict(), config.optimizer.name, config.precision, config.parallel)
    return f'{parts} {devices.describe()} jax {jax.__version__}'


def spread(values: dict[str, Any], key: str, digits: int) -> str:
    """A number; of several replicas mean ± standard deviation."""
    sd = f' ± {values[f"{key}_sd"]:.{digits}f}' if f'{key}_sd' in values else ''
    return f'{values[key]:.{digits}f}{sd}'


def show_scores(console: Console, scores: dict[str, Any], class_names: tuple[str, ...], title: str) -> None:
    """Loss, accuracy, macro F1, accuracy per class and the confusion matrix, for people."""
    loss, accuracy, f1 = (
        spread(scores, key, digits) for key, digits in (('loss', 4), ('accuracy', 2), ('macro_f1', 2))
    )
    console.print(f'{title}: loss {loss}  accuracy {accuracy}%  macro F1 {f1}%')
    for i, one in enumerate(scores.get('replicas', ())):
        console.print(
            f'  replica {i}: loss {one["loss"]:.4f}  accuracy {one["accuracy"]:.2f}%  '
            f'macro F1 {one["macro_f1"]:.2f}%'
        )
    # As they will be written, or escapes would shift the columns.
    names = [name.encode(console.encoding, streams.ESCAPED).decode(console.encoding) for name in class_names]
    longest = max(12, *map(cell_len, names))
    heads = [set_cell_size(name, longest) for name in names]
    for head, accuracy in zip(heads, scores['class_accuracy'], strict=True):
        score = 'no images' if accuracy is None else f'{100 * accuracy:6.2f}%'
        console.print(f'  {head} {score}')
    confusion = scores['confusion']
    columns = [*names, *['none'] * (len(confusion[0]) - len(names))]
    if len(columns) > LARGEST_CONFUSION:
        return
    columns = [set_cell_size(name, min(cell_len(name), 8)) for name in columns]
    width = max(len(str(max(map(max, confusion)))), *map(cell_len, columns)) + 2
    titles = ''.join(' ' * (width - cell_len(name)) + name for name in columns)
    console.print('true class (rows), predicted class (columns), images:')
    console.print(' ' * (longest + 2) + titles)
    for head, row in zip(heads, confusion, strict=True):
        console.print(f'  {head}' + ''.join(f'{count:>{width}}' for count in row))
