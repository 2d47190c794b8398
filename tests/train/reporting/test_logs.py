"""What a run logs, when it ends early, and what its summary says of the way there."""

import csv
import json
import sys
import types

import numpy as np
import pytest
import runs
from sklearn import metrics as sk

import train
from flaxnets.errors import UserError
from train import metrics, step, summary
from train.checkpointing.best import out_of_patience
from train.checkpointing.checkpoints import Checkpoints


def test_the_csv_has_what_the_json_lines_have(tmp_path):
    train.run(runs.digits(tmp_path), tmp_path / 'run')
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    with (tmp_path / 'run' / 'metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == lines
    assert [line['epoch'] for line in lines] == [1, 2]


class Wandb(types.ModuleType):
    """What of the package is used; keeps what it is sent, as their server does, and offline their files."""

    def __init__(self, offline):
        super().__init__('wandb')
        self.sent, self.sendings, self.ids, self.offline = {}, [], [], offline

    def init(self, *, id, **settings):
        assert settings['resume'] == 'allow'
        self.ids.append(id)
        return self

    @property
    def summary(self):
        if self.offline:
            return {}
        return {key: value for at in sorted(self.sent) for key, value in self.sent[at].items()}

    def define_metric(self, name, step_metric):
        assert name.split('/')[0] == step_metric.split('/')[0]

    def log(self, values, step):
        assert self.sent.get(step, values).keys() == values.keys(), 'another point of the same step'
        self.sent[step] = values
        self.sendings.append(step)

    def finish(self):
        pass


@pytest.mark.parametrize('offline', [False, True])
def test_weights_and_biases_gets_every_point_once(tmp_path, monkeypatch, offline):
    """Of a run that stops after its checkpoint, and makes steps again when it resumes."""
    fake = Wandb(offline)
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    config = runs.digits(tmp_path, log__wandb='digits', log__every=2, epochs=3, checkpoint__every='1 epochs')
    saved = Checkpoints.save

    def fail(self, state, step, meta, scores):
        if step > 8:
            raise RuntimeError('killed')
        saved(self, state, step, meta, scores)

    monkeypatch.setattr(Checkpoints, 'save', fail)
    with pytest.raises(RuntimeError, match='killed'):
        train.run(config, tmp_path / 'run')
    monkeypatch.setattr(Checkpoints, 'save', saved)
    train.run(config, tmp_path / 'run')
    points = [fake.sent[at] for at in sorted(fake.sent)]
    epochs = [values['epoch/at'] for values in points if 'epoch/test_accuracy' in values]
    steps = [values['step/at'] for values in points if 'step/loss' in values]
    assert (epochs, steps) == ([4, 8, 12], [2, 4, 6, 8, 10, 12])
    # Offline, those after the checkpoint come again, each in its old place.
    assert len(fake.sendings) == len(fake.sent) + (3 if offline else 0)
    assert len(set(fake.ids)) == 1
    assert len(fake.ids) == 2


def test_weights_and_biases_has_to_be_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(UserError, match=r"wandb to be installed to log to 'digits'.*pip install wandb"):
        train.run(runs.digits(tmp_path, log__wandb='digits'), tmp_path / 'run')


@pytest.mark.parametrize(
    ('accuracies', 'ends'),
    [([1, 2, 3], False), ([3, 1, 2], True), ([3, 3, 3], True), ([1, 3, 3], False), ([], False)],
)
def test_patience_counts_from_the_last_better_epoch(tmp_path, accuracies, ends):
    config = runs.digits(tmp_path, stop__patience=2)
    history = [{'step': i, 'test_accuracy': a} for i, a in enumerate(accuracies)]
    assert out_of_patience(history, 'test', config) == ends


def test_a_run_ends_early_and_stays_so(tmp_path, capsys):
    # At a learning rate of zero no epoch is better than the first one.
    config = runs.digits(tmp_path, epochs=9, stop__patience=2, optimizer__learning_rate=0.0)
    result = train.run(config, tmp_path / 'run')
    assert (result['epochs'], result['stopped_by_patience']) == (3, 2)
    assert 'stopped after 3 of 9 epochs: no better test accuracy for 2' in capsys.readouterr().out
    (tmp_path / 'run' / 'summary.json').unlink()
    assert train.run(config, tmp_path / 'run')['epochs'] == 3
    assert train.run(config, tmp_path / 'run')['epochs'] == 3
    printed = capsys.readouterr().out
    assert 'is finished: 3 epochs' in printed
    assert 'To continue, raise --config.stop.patience; ' in printed
    config.stop.patience = 4
    assert train.run(config, tmp_path / 'run')['epochs'] == 5


def test_top_five_as_scikit_learn_counts_it():
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 12)), rng.integers(0, 12, 50)
    count = int(step.top5(jnp.asarray(logits), jnp.asarray(labels), jnp.ones(50)))
    expected = sk.top_k_accuracy_score(labels, logits, k=5, labels=range(12))
    confusion = sk.confusion_matrix(labels, logits.argmax(1), labels=range(12))
    assert metrics.scores(1.0, confusion, count)['top5_accuracy'] == pytest.approx(100 * expected, abs=1e-12)


def test_milestones():
    accuracies, losses = [40, 61, 59, 95.0], [2.0, 0.9, 1.0, 1.1]
    history = [
        {'epoch': i + 1, 'test_accuracy': a, 'test_loss': loss}
        for i, (a, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]
    found = summary.milestones(history, 'test')
    reached = {'50': 2, '60': 2, '70': 4, '80': 4, '90': 4, '95': 4, '98': None, '99': None}
    assert found == {'epochs_to_accuracy': reached, 'overfitting_from_epoch': 3}
    assert summary.milestones(history[:2], 'test')['overfitting_from_epoch'] is None
