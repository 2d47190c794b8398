"""`train.evaluate` and `train.runs` from the command line, also while the run goes on."""

import json
import shutil

import pytest
import runs as small

import train
from flaxnets.errors import UserError
from train import cli, evaluate
from train import runs as command
from train.checkpointing import lock
from train.checkpointing.checkpoints import Checkpoints


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    train.run(small.digits(folder, optimizer__ema=0.9, checkpoint__keep=1), folder / 'mine')
    return folder


def test_runs_are_listed_with_state_and_scores(done, capsys):
    (done / 'nothing').mkdir()
    (done / 'nothing' / 'config.json').write_text('{}')  # of another program, perhaps
    for name in ('cut', 'list', 'bytes', 'unsaved'):
        shutil.copytree(done / 'mine', done / name)
    with (done / 'cut' / 'metrics.jsonl').open('a') as file:
        file.write('{"epo')
    (done / 'cut' / 'summary.json').unlink()
    (done / 'list' / 'config.json').write_text('[]')
    (done / 'bytes' / 'config.json').write_bytes(b'\xff\xfe\0')
    (done / 'bytes' / 'summary.json').write_text('null')
    (done / 'unsaved' / 'config.json').write_text('{"model": {"name": 3}, "data": 4}')
    shutil.rmtree(done / 'unsaved' / 'checkpoints')
    summary = json.loads((done / 'mine' / 'summary.json').read_text())
    rows = {row['run'].rpartition('/')[2]: row for row in command.list_runs([done])}
    assert {name: row['state'] for name, row in rows.items()} == {
        'mine': 'finished', 'cut': 'stopped', 'list': 'config.json cannot be read',
        'bytes': 'config.json and summary.json cannot be read', 'unsaved': 'config.json cannot be read',
    }  # fmt: skip
    mine = rows['mine']
    assert rows.pop('unsaved')['model'] is None
    for row in rows.values():
        assert (row['model'], row['data'], row['epochs']) == ('cnn', 'digits', '2/2')
        assert row['accuracy'] == mine['accuracy'] == summary['test_accuracy']
    assert mine['best'] == summary['best_test_accuracy']
    with lock.WorkdirLock(done / 'mine'):
        assert command.describe(done / 'mine')['state'] == 'running'
    assert cli.guarded(command.main, ['runs', str(done)]) == 0
    assert f'{summary["test_accuracy"]:.2f}%' in capsys.readouterr().out
    with pytest.raises(UserError, match='expected a folder with runs'):
        command.list_runs([done / 'nowhere'])


def test_evaluate_as_json_averaged_and_in_other_batches(done, capsys):
    both = evaluate.evaluate(done / 'mine')
    arguments = ['evaluate', '--workdir', str(done / 'mine'), '--json', '--ema', '--batch_size=50']
    assert cli.guarded(evaluate.main, arguments) == 0
    averaged = json.loads(capsys.readouterr().out)
    assert averaged['accuracy'] == pytest.approx(both['ema']['accuracy'])
    assert averaged['loss'] == pytest.approx(both['ema']['loss'], rel=1e-5)


@pytest.mark.parametrize('moment', ['meta', 'restore'])
def test_evaluate_looks_again_when_a_checkpoint_has_been_replaced(done, monkeypatch, tmp_path, moment):
    shutil.copytree(done / 'mine', tmp_path / 'run')
    checkpoints = tmp_path / 'run' / 'checkpoints'
    original = getattr(Checkpoints, moment)

    def replaced(self, *arguments):
        if (checkpoints / '8').exists():
            (checkpoints / '8').rename(checkpoints / '12')
        return original(self, *arguments)

    monkeypatch.setattr(Checkpoints, moment, replaced)
    assert evaluate.evaluate(tmp_path / 'run', checkpoint='last')['step'] == 12
