"""What a run prints, and the progress bar on a terminal; its files are written by `logs.py`."""

import pathlib
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.reporting.logs import Logs

# Times, memory and the command: all that may differ between two runs of the same config.
VARYING_KEYS = (
    'seconds',
    'images_per_second',
    'seconds_per_epoch',
    'training_seconds',
    'peak_memory_bytes',
    'command',
)


class Reporter:
    """The console and the files of one run; `quiet` (all processes but the first) writes nothing."""

    def __init__(self, workdir: pathlib.Path, config: Any, *, quiet: bool = False):
        self.config, self.quiet = config, quiet
        self.logs = Logs(workdir, config.log)
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.progress: Progress | None = None
        self.started = time.monotonic()

    def facts(self, **facts: Any) -> None:
        """Lines of `name  value`, before training starts."""
        for name, value in facts.items():
            self.console.print(f'{name:<11} {value}', markup=False)

    def line(self, text: str) -> None:
        """One line, above the progress bar where there is one."""
        self.console.print(text, markup=False)

    def start(self, done: int, total: int) -> None:
        """Opens the logs and, on a terminal, the progress bar."""
        self.started, self.first, self.total = time.monotonic(), done, total
        if done < total and not self.quiet:
            self.logs.start(done, self.config.to_dict())
        if self.console.is_terminal and not self.quiet:
            columns = (
                TextColumn('{task.description}'),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn('steps  {task.fields[state]}'),
                TimeRemainingColumn(),
            )
            self.progress = Progress(*columns, console=self.console, transient=True)
            self.task = self.progress.add_task('training', total=total, completed=done, state='compiling')
            self.progress.start()

    def steps(self, done: int, loss: float, rate: float, *, curve: bool = True) -> None:
        """Moves the progress bar to `done` steps; with `curve`, loss and learning rate to the logs."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, state=f'loss {loss:.4f}')
        if curve:
            self.logs.scalars({'step/loss': loss, 'step/learning_rate': rate}, done)

    def history(self, rows: list[dict[str, Any]]) -> None:
        """Begins with these epochs."""
        if not self.quiet:
            self.logs.history(rows)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """One line for an epoch, on the console and in the logs."""
        if self.quiet:
            return
        self.logs.epoch(row)
        speed = row['step'] - self.first
        left = (time.monotonic() - self.started) / max(speed, 1) * (self.total - row['step'])
        held_out = 'validation' if 'validation_accuracy' in row else 'test'
        parts = [
            f'epoch {row["epoch"]:>{len(str(epochs))}}/{epochs}',
            f'train loss {row["train_loss"]:.4f}',
            f'{held_out} accuracy {row[f"{held_out}_accuracy"]:.2f}%',
            f'{row["images_per_second"]:,.0f} images/s',
            f'{duration(left)} left',
        ]
        if f'ema_{held_out}_accuracy' in row:
            parts.insert(3, f'averaged {row[f"ema_{held_out}_accuracy"]:.2f}%')
        self.line('  '.join(parts))

    def summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json."""
        if not self.quiet:
            self.logs.summary(summary)

    def pictures(self, folder: pathlib.Path, step: int) -> None:
        """The report's pictures in `folder`, for TensorBoard."""
        if not self.quiet:
            self.logs.pictures(folder, step)

    def close(self) -> None:
        """Takes the progress bar away and closes the files."""
        if self.progress is not None:
            self.progress.stop()
        self.logs.close()


def duration(seconds: float) -> str:
    """Such as 12 s, 3 min 20 s or 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    if seconds < 3600:
        return f'{seconds // 60} min {seconds % 60} s'
    return f'{seconds // 3600} h {seconds % 3600 // 60} min'


def show_scores(console: Console, scores: dict[str, Any], class_names: tuple[str, ...], title: str) -> None:
    """Loss, accuracy, macro F1 and accuracy per class, for people."""
    loss, accuracy, f1 = scores['loss'], scores['accuracy'], scores['macro_f1']
    console.print(f'{title}: loss {loss:.4f}  accuracy {accuracy:.2f}%  macro F1 {f1:.2f}%')
    for name, accuracy in zip(class_names, scores['class_accuracy'], strict=True):
        console.print(f'  {name:<12} {"no images" if accuracy is None else f"{100 * accuracy:6.2f}%"}')
