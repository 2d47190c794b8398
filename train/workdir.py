"""A run's folder: its name where the command line gives none; its summary and metrics, read back."""

import glob
import hashlib
import json
import pathlib
import warnings
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


def is_config(content: Mapping[str, Any]) -> bool:
    """Whether an object is a run's config, as config.json has it."""
    sections = [content.get(key) for key in ('model', 'data')]
    named = all(isinstance(part, dict) and isinstance(part.get('name'), str) for part in sections)
    return named and type(content.get('epochs')) is int


def is_summary(content: Mapping[str, Any]) -> bool:
    """Whether an object is a run's summary, as summary.json has it."""
    numbers = ('epochs', 'test_accuracy', 'test_loss', 'macro_f1')
    return all(type(content.get(key)) in (int, float) for key in numbers)


def is_row(content: Any) -> bool:
    """Whether an object is an epoch of a run, as metrics.jsonl has it."""
    if not isinstance(content, dict) or {int} != {type(content.get(key)) for key in ('epoch', 'step')}:
        return False
    split = 'validation' if 'validation_accuracy' in content else 'test'
    numbers = (f'{split}_accuracy', f'{split}_loss', 'seconds', 'images_per_second')
    return all(type(content.get(key)) in (int, float) for key in numbers)


def damaged(workdir: pathlib.Path) -> list[str]:
    """Which of config.json and summary.json are there with something else than a run writes."""
    files = {workdir / 'config.json': is_config, workdir / 'summary.json': is_summary}
    return [path.name for path, ours in files.items() if path.exists() and not ours(read_json(path))]


def read_summary(workdir: pathlib.Path) -> dict[str, Any]:
    """The summary of the run in `workdir`; empty where it has none or, with a warning, a damaged one."""
    path = workdir / 'summary.json'
    summary = read_json(path)
    if is_summary(summary):
        return summary
    if path.exists():
        warnings.warn(f"{path} is not a run's summary: not used", RuntimeWarning, stacklevel=1)
    return {}


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, one per epoch, without a line that is being written, or is no such row."""
    path = workdir / 'metrics.jsonl'
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if is_row(row):
            rows.append(row)
    return rows


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file, or anything else in it."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
