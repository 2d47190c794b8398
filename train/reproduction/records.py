"""Records: files of finished runs in the repository, from which every table is made.

A record is one JSON file, `results/SUITE/EXPERIMENT-seedN.json`. It is refused if it no longer describes the
experiment: if the config is another one now, or the model computes something else.
"""

import datetime
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flaxnets import registry
from flaxnets.errors import UserError
from train import config as options
from train import config_flags, provenance
from train.reproduction.experiment import Experiment
from train.reproduction.suites import EXPERIMENTS
from train.workdir import read_json, read_metrics, read_summary

Record = dict[str, Any]

# Columns of the curve; those of an evaluation on the whole training set count as its train scores.
CURVE = ('train_loss', 'train_accuracy', 'test_loss', 'test_accuracy', 'test_macro_f1', 'seconds')
WHOLE = ('train_set_loss', 'train_set_accuracy')
SCORES = (
    'parameters', 'published_parameters', 'train_loss', 'train_accuracy', 'test_loss', 'test_accuracy',
    'best_test_accuracy', 'best_epoch', 'macro_f1', 'class_names', 'class_accuracy', 'confusion',
    'seconds_per_epoch',
)  # fmt: skip
# What may differ between a run and its experiment without changing what was computed.
FREE = (
    *(key for key in options.MUTABLE if key not in ('epochs', 'stop.')),
    *('seed', 'replicas', 'data.source', 'checkpoint.', 'deterministic', 'init_from.path'),
)
REMARKS = json.loads((pathlib.Path(__file__).parent / 'data.json').read_text())


def resolved(experiment: Experiment, **changes: Any) -> options.ConfigDict:
    """The checked config of an experiment, with these changes."""
    settings = experiment.overrides | changes
    flags = [f'--config.{key}={value}' for key, value in settings.items()]
    return config_flags.parse(['train.reproduce', '--config', experiment.config, *flags])[0]


def material(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a flat config that decides what is computed, a model's defaults filled in."""
    registry.check_named_in_file(config['model.name'], 'the record')
    known = registry.entry(config['model.name']).options()
    defaults = {key: option.default for key, option in options.OPTIONS.items()}
    defaults |= {f'model.{key}': option.default for key, option in known.items()}
    derived = {f'model.{key}' for key in options.FROM_ELSEWHERE} | {'model.image_shape', 'model.num_classes'}
    full = {key: value for key, value in defaults.items() if key not in derived} | dict(config)
    return {key: json.loads(json.dumps(v)) for key, v in full.items() if not key.startswith(FREE)}


def create(workdir: pathlib.Path, experiment: Experiment, note: str = '', **facts: Any) -> Record:
    """The record of the finished run in `workdir`; `facts` replace what is found out here and now.

    Raises:
        UserError: there is no finished run.
    """
    config = options.flatten(read_json(workdir / 'config.json'))
    summary, history = read_summary(workdir), read_metrics(workdir)
    if not (config and summary and history):
        raise UserError(f'{workdir}: expected a finished run, but a file of it is missing or damaged')
    finished = datetime.date.fromtimestamp((workdir / 'summary.json').stat().st_mtime)
    shape = image_shape(config['data.name'], config['data.image_size'])
    model = {k.removeprefix('model.'): v for k, v in config.items() if k.startswith('model.')}
    name = model.pop('name')
    record = {
        'experiment': experiment.name,
        'seed': config['seed'],
        'date': finished.isoformat(),
        'note': note,
        'hardware': hardware() | {'devices': summary['devices']},
        'versions': summary['versions'],
        'data': images(workdir, config['data.name']),
        'config': material(config),
        'scores': {key: summary[key] for key in SCORES},
        'curve': {key: [_short(row[key]) for row in history] for key in CURVE + WHOLE if key in history[0]},
    }
    if 'golden' not in facts:
        facts['golden'] = golden_numbers(name, json.dumps(model), shape, len(summary['class_names']))
    if 'commit' not in facts:
        facts['commit'] = provenance.commit()
    return record | facts


def write(record: Record, folder: pathlib.Path) -> pathlib.Path:
    """Writes a record where `read` finds it, one line per fact."""
    file = path(folder, record['experiment'], record['seed'])
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f' {json.dumps(key)}: {json.dumps(value)}' for key, value in record.items()]
    file.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    return file


def path(folder: pathlib.Path, experiment: str, seed: int) -> pathlib.Path:
    """Where the record of an experiment and a seed is."""
    return folder / f'{experiment}-seed{seed}.json'


def read(folder: pathlib.Path, *, golden: bool = True) -> tuple[list[Record], list[str]]:
    """The records of `folder`, in the suites' order, and why others were refused.

    Without `golden`, what models compute, which takes minutes to find out, is not compared.
    """
    records, refused = [], []
    order = list(EXPERIMENTS)
    for file in sorted(folder.glob('*/*-seed*.json')):
        record = json.loads(file.read_text())
        if why := problem(record, golden=golden):
            refused.append(f'{file}: {why}')
        else:
            records.append(record)
    return sorted(records, key=lambda r: (order.index(r['experiment']), r['seed'])), refused


def problem(record: Record, *, golden: bool) -> str:
    """Why a record is refused; empty if it is valid."""
    experiment = EXPERIMENTS.get(record['experiment'])
    if experiment is None:
        return f'there is no experiment {record["experiment"]} any more'
    now = _material(experiment.name)
    then = material(record['config'])  # options added after the record had the effect of their defaults
    changed = [key for key in sorted(now) if now[key] != then.get(key)]
    if changed:
        listed = ', '.join(f'{key} {then.get(key)!r} there, {now[key]!r} now' for key in changed)
        return f"its config is not the experiment's any more: {listed}"
    if golden:
        from train.reproduction.golden import same

        if not same(record['golden'], _golden_now(experiment.name, len(record['scores']['class_names']))):
            return f'the model computes something else since commit {record["commit"][:7]}: train it again'
    return ''


@functools.cache
def _material(name: str) -> dict[str, Any]:
    return material(options.flatten(resolved(EXPERIMENTS[name])))


@functools.cache
def _golden_now(name: str, num_classes: int) -> dict[str, list[float]]:
    config = resolved(EXPERIMENTS[name])
    shape = image_shape(config.data.name, config.data.image_size)
    return golden_numbers(config.model.name, json.dumps(options.model_options(config)), shape, num_classes)


@functools.cache
def golden_numbers(
    name: str, model_options: str, image_shape: tuple[int, int, int], num_classes: int
) -> dict[str, list[float]]:
    """`golden.numbers`, once for all seeds and all runs of one model."""
    from train.reproduction import golden

    return golden.numbers(name, json.loads(model_options), num_classes=num_classes, image_shape=image_shape)


def image_shape(name: str, size: Sequence[int]) -> tuple[int, int, int]:
    """Of the images that a model of this data set sees, resized to `size` unless that is empty."""
    height, width = (size[0], size[-1]) if size else ((28, 28) if name == 'mnist' else (32, 32))
    return height, width, 1 if name == 'mnist' else 3


def images(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """The fingerprints of what the run was trained and tested on, and what is known of those images."""
    from train.checkpointing.checkpoints import committed

    newest = workdir / 'checkpoints' / str(committed(workdir / 'checkpoints')[-1])
    prints = json.loads((newest / 'meta' / 'metadata').read_text())['data']
    remarks = {REMARKS[value] for value in prints.values() if value in REMARKS}
    return {'name': name, **prints, 'remark': '; '.join(sorted(remarks))}


def hardware() -> dict[str, Any]:
    """The processor and how many of its cores this process may use."""
    from train.benchmarks import timing

    found = timing.hardware()
    return {key: found[key] for key in ('processor', 'cores')}


def _short(value: float) -> float:
    return float(f'{value:.6g}')
