"""What a run shows and leaves behind: console, progress, metrics.jsonl, TensorBoard, summary.json."""

import json
import pathlib
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flaxnets.interop.atomic import write_json, write_text
from train.reporting.tensorboard import Events

# Keys whose values are times: all that may differ between two runs of the same config.
TIMING_KEYS = ('seconds', 'images_per_second', 'seconds_per_epoch')
# Too long for a line or a curve; they go to metrics.jsonl and the summary.
NOT_CURVES = ('epoch', 'step', 'class_accuracy', 'confusion')


class Reporter:
    """The console and the files of one run; `quiet` (all processes but the first) writes nothing."""

    def __init__(self, workdir: pathlib.Path, *, tensorboard: bool = True, quiet: bool = False):
        self.workdir = workdir
        self.quiet = quiet
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.progress: Progress | None = None
        self.started = time.monotonic()
        self.tensorboard = tensorboard and not quiet
        self.writer: Events | None = None

    def facts(self, **facts: Any) -> None:
        """Lines of `name  value`, before training starts."""
        for name, value in facts.items():
            self.console.print(f'{name:<11} {value}', markup=False)

    def line(self, text: str) -> None:
        """One line, above the progress bar where there is one."""
        self.console.print(text, markup=False)

    def start(self, done: int, total: int) -> None:
        """Opens the event file and, on a terminal, the progress bar."""
        self.started, self.first, self.total = time.monotonic(), done, total
        if self.tensorboard and done < total:
            self.writer = Events(self.workdir, done)
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
        """Moves the progress bar to `done` steps; with `curve`, loss and learning rate to TensorBoard."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, state=f'loss {loss:.4f}')
        if curve:
            self._scalars({'step/loss': loss, 'step/learning_rate': rate}, done)

    def history(self, rows: list[dict[str, Any]]) -> None:
        """Makes metrics.jsonl hold these epochs alone: a resumed run drops what followed its checkpoint."""
        if not self.quiet:
            write_text(self.workdir / 'metrics.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """One line for an epoch, in metrics.jsonl, TensorBoard and the console."""
        if self.quiet:
            return
        with (self.workdir / 'metrics.jsonl').open('a') as file:
            file.write(json.dumps(row) + '\n')
        self._scalars({f'epoch/{k}': v for k, v in row.items() if k not in NOT_CURVES}, row['step'])
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
            write_json(self.workdir / 'summary.json', summary)

    def close(self) -> None:
        """Takes the progress bar away and closes the files."""
        if self.progress is not None:
            self.progress.stop()
        if self.writer is not None:
            self.writer.close()

    def _scalars(self, values: dict[str, float], step: int) -> None:
        if self.writer is not None:
            self.writer.add(values, step)


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
