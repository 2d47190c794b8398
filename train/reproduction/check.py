"""Shortened runs of every experiment, as a check that all of them run, without verdicts."""

import dataclasses
import json
import pathlib
import resource
import time
from typing import Any

from train.reporting.console import duration
from train.workdir import read_metrics


@dataclasses.dataclass
class Check:
    """What a shortened suite, or a shard of it, has run: images seen by experiment, and the time it took."""

    changes: dict[str, Any]
    date: str
    commit: str
    hardware: dict[str, Any]
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    failed: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    processor_seconds: float = 0.0

    def saw(self, name: str, workdir: pathlib.Path) -> str:
        """Adds a finished run; returns the number of images it was trained on, counted in every epoch, in
        words."""
        rows = read_metrics(workdir)
        self.images[name] = round(sum(row['images_per_second'] * row['seconds'] for row in rows))
        return f'{self.images[name]:,} images seen'

    def write(self, folder: pathlib.Path, shard: str, started: float) -> str:
        """Writes it to `folder`, one file for each shard, and returns it in words."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds, self.processor_seconds = time.monotonic() - started, used.ru_utime + used.ru_stime
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'check-{shard.replace("/", "of")}.json').write_text(
            json.dumps(vars(self), indent=1) + '\n'
        )
        return describe([vars(self)])


def read(folder: pathlib.Path) -> str:
    """All checks in `folder` in words; empty if there are none."""
    there = [json.loads(path.read_text()) for path in sorted(folder.glob('check-*.json'))]
    return describe(there) if there else ''


def describe(checks: list[dict[str, Any]]) -> str:
    """The shards' figures in a sentence or two."""
    runs = {name: count for check in checks for name, count in check['images'].items()}
    failed = [name for check in checks for name in check['failed']]
    first = checks[0]
    settings = ', '.join(f'{key} {value}' for key, value in first['changes'].items())
    hardware = first['hardware']
    cores = 'core' if hardware['cores'] == 1 else 'cores'
    return (
        f'{len(runs)} experiments ran with {settings}: {sum(runs.values()):,} images seen, in '
        f'{duration(max(check["seconds"] for check in checks))} ({len(checks)} at a time, processor time '
        f'{duration(sum(check["processor_seconds"] for check in checks))}, {hardware["cores"]} {cores} of '
        f'{hardware["processor"]}, {first["date"]}, commit {first["commit"][:7]}). '
        + (f'Failed: {", ".join(failed)}. ' if failed else '')
        + 'No verdict: the runs were shortened.'
    )
