"""Where a run goes, and what a careless hand leaves there."""

import dataclasses
import hashlib
import json
import os
import pathlib

import pytest
import runs

import train
from flaxnets.errors import UserError
from train import config as options
from train import summary
from train.checkpointing import resume
from train.checkpointing.checkpoints import read_config
from train.checkpointing.meta import Meta
from train.evaluate import evaluate
from train.metrics import EpochSums
from train.workdir import default_workdir, read_metrics

# Valid JSON or none, but not ours.
STRANGE = [
    b'{}',
    b'[]',
    b'null',
    b'3',
    b'"x"',
    b'\xff\xfe\x00',
    b'{"epochs": null}',
    b'{"model": 1}',
    b'{"model": {}, "data": 3, "epochs": 1}',
    b'{"model": {}, "data": {}, "epochs": "x"}',
    b'{"model": {}, "data": {}, "epochs": 2}',
    b'[' * 9999,
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_what_may_change_does_not_change_the_folder(tmp_path):
    config = options.validate(runs.digits(tmp_path))
    folder = default_workdir(config, 'mine', 'digits,layers=2')
    assert folder.name.startswith('mine-digits-layers2-')
    for changes in (
        {'epochs': 9},
        {'log__every': 3},
        {'checkpoint__every': '3 steps'},
        {'data__workers': 1},
        {'parallel': 'jit', 'devices': 1},
    ):
        changed = options.validate(runs.digits(tmp_path, **changes))
        assert default_workdir(changed, 'mine', 'digits,layers=2') == folder, changes
    changed = options.validate(runs.digits(tmp_path, seed=1))
    assert default_workdir(changed, 'mine', 'digits,layers=2') != folder


def test_a_folder_of_an_earlier_version_is_found(tmp_path):
    """Its hash covers everything, and its config.json lacks the options that came later."""

    def earlier(**changes):
        config = options.validate(runs.digits(tmp_path, **changes))
        hashed = hashlib.sha256(json.dumps(options.flatten(config), sort_keys=True).encode()).hexdigest()[:8]
        folder = pathlib.Path('runs') / f'mine-{hashed}'
        folder.mkdir(parents=True)
        stored = config.to_dict()
        del stored['data']['test_limit']
        (folder / 'config.json').write_text(json.dumps(stored))
        return config, folder

    (three, folder), (five, other) = earlier(epochs=3), earlier(epochs=5)
    earlier(seed=1)
    for i, content in enumerate(STRANGE):
        (pathlib.Path('runs') / f'mine-0000000{i}').mkdir()
        (pathlib.Path('runs') / f'mine-0000000{i}' / 'config.json').write_bytes(content)
    assert default_workdir(three, 'mine') == folder
    assert default_workdir(five, 'mine') == other
    assert default_workdir(options.validate(runs.digits(tmp_path, epochs=8)), 'mine') in (folder, other)
    assert default_workdir(options.validate(runs.digits(tmp_path, seed=2)), 'mine').exists() is False


def test_a_run_of_version_0_1_0_continues(tmp_path, capsys):
    """Its config.json has `model.oversight`, and lacks the options that came later."""
    old = json.loads((runs.ROOT / 'tests' / 'train' / 'config-0.1.0.json').read_text())
    old['data']['cache_dir'] = str(tmp_path / 'cache')
    assert old['model']['oversight'] is True
    assert 'replicas' not in old
    new = options.validate(old | {'log': {'tensorboard': False, 'report': False}})
    train.run(new, tmp_path / 'run')
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(old))
    assert evaluate(tmp_path / 'run', checkpoint='last')['step'] == 3
    capsys.readouterr()
    new.epochs = 2
    assert train.run(new, tmp_path / 'run')['epochs'] == 2
    assert 'resumed at step 3 of 6' in capsys.readouterr().out


@pytest.mark.parametrize('content', STRANGE)
def test_a_strange_summary_or_config_is_none(content, tmp_path):
    (tmp_path / 'summary.json').write_bytes(content)
    (tmp_path / 'config.json').write_bytes(content)
    with pytest.warns(RuntimeWarning, match="summary.json is not a run's summary: not used"):
        assert summary.finished(tmp_path, options.defaults()) is None
    with pytest.warns(RuntimeWarning, match='config.json is not a run.s config: no checkpoint has'):
        assert read_config(tmp_path) is None


@pytest.mark.parametrize('changed', [{}, {'step': None}, {'test_accuracy': 'high'}, {'seconds': None}])
def test_lines_that_are_no_epochs_are_left_out(changed, tmp_path):
    row = {'epoch': 1, 'step': 4, 'test_loss': 2.0, 'test_accuracy': 9.5, 'seconds': 1}
    row['images_per_second'] = 6.0
    other = row | changed if changed else {'epoch': 'x'}
    (tmp_path / 'metrics.jsonl').write_text(f'{json.dumps(row)}\n{json.dumps(other)}\n[]\n{"[" * 9999}\n')
    assert read_metrics(tmp_path) == [row]


@pytest.mark.parametrize('builds', [True, False])
def test_a_wrong_option_in_a_runs_config_is_named_with_the_run(builds, tmp_path):
    stored = options.validate(runs.digits(tmp_path)).to_dict()
    stored['data']['batch_size'] = 'x'
    (tmp_path / 'config.json').write_text(json.dumps(stored))
    with pytest.raises(UserError, match=rf"^{tmp_path}: config\.data\.batch_size: expected int .*, got 'x'"):
        read_config(tmp_path, builds=builds)


def test_strange_files_of_a_finished_run_are_said(tmp_path, capsys):
    """The config of its checkpoint counts, and the summary is made again."""
    config = runs.digits(tmp_path, epochs=1)
    first = train.run(config, tmp_path / 'run')
    for file, message in {
        'summary.json': r"summary\.json is not a run's summary: not used",
        'config.json': r'config\.json is not a run.s config: that of checkpoint 4 is used',
    }.items():
        (tmp_path / 'run' / file).write_text('[]')
        capsys.readouterr()
        with pytest.warns(RuntimeWarning, match=message):
            again = train.run(config, tmp_path / 'run')
        assert again['test_loss'] == first['test_loss']
        assert ('is finished: 1 epochs' in capsys.readouterr().out) == (file == 'config.json')


def test_a_path_that_is_not_in_utf8_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match=r'caf\\xe9/checkpoints: expected a path in UTF-8'):
        train.run(runs.digits(tmp_path), tmp_path / os.fsdecode(b'caf\xe9'))


def test_epochs_are_raised_in_the_default_folder_and_not_lowered(tmp_path, capsys):
    for epochs in (1, 2):
        assert train.run(runs.digits(tmp_path, epochs=epochs))['epochs'] == epochs
    assert 'resumed at step 4 of 8' in capsys.readouterr().out
    (folder,) = pathlib.Path('runs').iterdir()
    before = (folder / 'config.json').read_text()
    refused = r'config\.epochs: expected at least 2, the epochs that the run in runs.* has made, got 1'
    with pytest.raises(UserError, match=refused):
        train.run(runs.digits(tmp_path, epochs=1))
    (folder / 'summary.json').unlink()
    with pytest.raises(UserError, match=refused):
        train.run(runs.digits(tmp_path, epochs=1))
    assert (folder / 'config.json').read_text() == before
    changed = r'another config: data\.eval_batch_size \(0 there, 50 now\)'  # evaluation is defined by it
    with pytest.raises(UserError, match=changed):
        train.run(runs.digits(tmp_path, epochs=2, data__eval_batch_size=50), folder)


def test_converted_weights_at_the_end_are_refused(tmp_path):
    """They have no history, of which a summary could be made."""
    meta = Meta(config={}, card=None)
    check = lambda step, epochs, meta=meta: resume.check_epochs(  # noqa: E731
        tmp_path, options.validate({'epochs': epochs}), meta, step, 4
    )
    check(8, 3)
    check(0, 1)
    with pytest.raises(UserError, match=r'expected more than 2, got 2: .*, the end of epoch 2;'):
        check(8, 2)
    with pytest.raises(UserError, match='expected at least 3'):
        check(9, 2)
    sums = EpochSums(steps=1)
    check(8, 2, dataclasses.replace(meta, sums=sums))  # its last epoch is evaluated yet


def test_more_accumulation_than_an_epoch_has_batches(tmp_path):
    with pytest.raises(UserError, match=r'accumulate: expected at most the 4 batches of an epoch, got 5'):
        train.run(runs.digits(tmp_path, optimizer__accumulate=5), 'run')
