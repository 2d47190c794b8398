"""The numbers of a run in files: metrics.jsonl, metrics.csv, TensorBoard events, Weights & Biases.

All continue without a gap or a repetition: a run that resumes deletes the numbers after its checkpoint, and
computes them again.
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flaxnets.interop.atomic import write_json, write_text
from train.metrics import flat
from train.reporting.tensorboard import Events
from train.reporting.wandb import WandbRun

# Too long for a curve; they go to metrics.jsonl and the summary.
NOT_CURVES = ('epoch', 'step', 'class_accuracy', 'confusion')


class Logs:
    """The logs in `workdir`; `settings` is config.log. Nothing is written before `history`."""

    def __init__(self, workdir: pathlib.Path, settings: Any):
        self.workdir, self.settings = workdir, settings
        self.rows: list[dict[str, Any]] = []
        self.curves: list[Events | WandbRun] = []

    def start(self, step: int, config: Mapping[str, Any]) -> None:
        """Opens what takes curves, for a run that goes on at `step`."""
        if self.settings.tensorboard:
            self.curves.append(Events(self.workdir, step))
        if self.settings.wandb:
            sent = {'step': step, 'epoch': self.rows[-1]['step'] if self.rows else -1}
            self.curves.append(WandbRun(self.settings.wandb, self.workdir, sent, config))

    def history(self, rows: list[dict[str, Any]]) -> None:
        """Rewrites the files of metrics with these epochs alone."""
        self.rows = list(rows)
        write_text(self.workdir / 'metrics.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
        self._write_csv()

    def epoch(self, row: dict[str, Any]) -> None:
        """Adds an epoch."""
        self.rows.append(row)
        with (self.workdir / 'metrics.jsonl').open('a') as file:
            file.write(json.dumps(row) + '\n')
        self._write_csv()
        values = {f'epoch/{key}': value for key, value in flat(row).items() if key not in NOT_CURVES}
        self.scalars(values, row['step'])

    def scalars(self, values: dict[str, float], step: int) -> None:
        """A point of each curve."""
        for curves in self.curves:
            curves.add(values, step)

    def pictures(self, folder: pathlib.Path, step: int) -> None:
        """The PNG files of a folder, for TensorBoard."""
        there = {f'report/{path.stem}': path.read_bytes() for path in sorted(folder.glob('*.png'))}
        for curves in self.curves:
            if isinstance(curves, Events):
                curves.add_pictures(there, step)

    def summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json."""
        write_json(self.workdir / 'summary.json', summary)

    def close(self) -> None:
        """Ends the files of curves."""
        for curves in self.curves:
            curves.close()

    def _write_csv(self) -> None:
        # The whole file, because a row may have a column that earlier rows do not have.
        text = io.StringIO()
        rows = [flat(row) for row in self.rows]
        columns = dict.fromkeys(key for row in rows for key in row)
        writer = csv.DictWriter(text, list(columns), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.workdir / 'metrics.csv', text.getvalue())
