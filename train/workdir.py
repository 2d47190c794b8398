"""A run's folder: its name where the command line gives none; its summary and metrics, read back."""

import glob
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from train import config as options

RUNS = pathlib.Path('runs')


def default_workdir(config: options.ConfigDict, name: str, argument: str = '') -> pathlib.Path:
    """`runs/<config>-<variation>-<short hash>`: the same command finds its own run again.

    The hash leaves out what a run may change when it resumes (`config.MUTABLE`): with more epochs the same
    run goes on. Where there is no such folder, one of an earlier version whose config.json means the same run
    is used: the hash covered everything then.
    """
    words = [name, *(word for word in argument.replace('=', '').split(',') if word)]
    same = identity(config)
    folder = RUNS / '-'.join([*words, hashlib.sha256(same.encode()).hexdigest()[:8]])
    if folder.exists():
        return folder
    pattern = glob.escape('-'.join(words)) + '-' + '[0-9a-f]' * 8
    earlier = {path: read_json(path / 'config.json') for path in RUNS.glob(pattern)}
    found = [path for path, theirs in earlier.items() if theirs and identity(theirs) == same]

    def nearest(path: pathlib.Path) -> tuple[bool, float]:
        return earlier[path].get('epochs') == config.epochs, (path / 'config.json').stat().st_mtime

    return max(found, key=nearest, default=folder)


def identity(config: Mapping[str, Any]) -> str:
    """All options that must stay as they are when a run resumes, as text."""
    flat = {key: option.default for key, option in options.OPTIONS.items()} | options.flatten(config)
    return json.dumps({k: v for k, v in flat.items() if not k.startswith(options.MUTABLE)}, sort_keys=True)


def read_summary(workdir: pathlib.Path) -> dict[str, Any]:
    """The summary of the run in `workdir`; empty where it has none, or a damaged one."""
    summary = read_json(workdir / 'summary.json')
    numbers = ('epochs', 'test_accuracy', 'test_loss', 'macro_f1')
    return summary if all(type(summary.get(key)) in (int, float) for key in numbers) else {}


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, one an epoch; a line that is being written, or damaged, is left out."""
    path = workdir / 'metrics.jsonl'
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file, or anything else in it."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
