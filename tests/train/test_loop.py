"""Whole runs on the embedded digits: files, resuming, evaluation, and how they fail."""

import json

import jax
import numpy as np
import pytest
import runs

import train
from flaxnets.errors import UserError
from train import cli, evaluate
from train.checkpointing.checkpoints import Checkpoints
from train.reporting import console


def rows(workdir):
    text = (workdir / 'metrics.jsonl').read_text()
    return [
        {k: v for k, v in json.loads(line).items() if k not in console.VARYING_KEYS}
        for line in text.splitlines()
    ]


def test_a_run_leaves_what_it_promises(tmp_path, capsys):
    config = runs.digits(tmp_path, epochs=3, log__tensorboard=True)
    summary = train.run(config, tmp_path / 'run')
    workdir = tmp_path / 'run'
    printed = capsys.readouterr().out
    for word in (
        'device',
        'parameters',
        '200 train, 200 test images',
        'epoch 3/3',
        'images/s',
        'test accuracy',
    ):
        assert word in printed
    assert printed.count('chosen on the test images, so its score is too good') == 1
    assert summary == json.loads((workdir / 'summary.json').read_text())
    wanted = {'model', 'parameters', 'epochs', 'steps', 'devices', 'versions', 'macro_f1', 'class_accuracy'}
    wanted |= {'train_loss', 'test_loss', 'test_accuracy', 'best_test_accuracy'}
    wanted |= {'seconds_per_epoch', 'images_per_second'}
    assert wanted <= set(summary)
    assert (summary['epochs'], summary['steps']) == (3, 12)
    assert np.sum(summary['confusion']) == 200
    assert [row['epoch'] for row in rows(workdir)] == [1, 2, 3]
    assert rows(workdir)[-1]['train_loss'] < rows(workdir)[0]['train_loss']
    assert list(workdir.glob('events.out.tfevents*'))
    assert json.loads((workdir / 'config.json').read_text())['model']['name'] == 'cnn'


def test_resuming_ends_with_the_same_bits(tmp_path):
    whole = train.run(runs.digits(tmp_path, epochs=3), tmp_path / 'whole')
    train.run(runs.digits(tmp_path, epochs=1), tmp_path / 'parts')
    parts = train.run(runs.digits(tmp_path, epochs=3), tmp_path / 'parts')
    for key in console.VARYING_KEYS:
        whole.pop(key, None), parts.pop(key, None)
    assert parts == whole
    assert rows(tmp_path / 'parts') == rows(tmp_path / 'whole')
    states = []
    for name in ('whole', 'parts'):
        checkpoints = Checkpoints(tmp_path / name, read_only=True)
        states.append(checkpoints.manager.restore(12)['state'])
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_finished_run_says_so(tmp_path, capsys):
    config = runs.digits(tmp_path, epochs=1)
    summary = train.run(config, tmp_path / 'run')
    capsys.readouterr()
    assert train.run(config, tmp_path / 'run') == summary
    assert 'is finished: 1 epochs' in capsys.readouterr().out


def test_another_config_is_refused_and_the_keys_named(tmp_path):
    train.run(runs.digits(tmp_path, epochs=1), tmp_path / 'run')
    other = runs.digits(tmp_path, epochs=2, optimizer__learning_rate=0.5, model__width=8)
    message = r'model\.width \(4 there, 8 now\), optimizer\.learning_rate \(0\.01 there, 0\.5 now\)'
    with pytest.raises(UserError, match=message):
        train.run(other, tmp_path / 'run')


def test_divergence_stops_with_the_last_good_checkpoint(tmp_path):
    config = runs.digits(tmp_path, epochs=2, optimizer__name='sgd', optimizer__learning_rate=1e30)
    with pytest.raises(UserError, match=r'training diverged at step \d.*no checkpoint yet'):
        train.run(config, tmp_path / 'run')
    # Weight decay at an absurd rate multiplies the parameters by -100 a step: good at first.
    config = runs.digits(tmp_path, epochs=9, optimizer__name='sgd', optimizer__learning_rate=101.0)
    config.optimizer.weight_decay = 1.0
    config.checkpoint.every = '1 step'
    with pytest.raises(UserError, match=r'training diverged at step \d+.*last good checkpoint is step \d+'):
        train.run(config, tmp_path / 'later')
    checkpoints = Checkpoints(tmp_path / 'later', read_only=True)
    good = checkpoints.manager.restore(checkpoints.find('last'))['state']
    checkpoints.close()
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(good['params']))


@pytest.mark.parametrize('checkpoint', ['best', 'last', '4'])
def test_evaluate_restores_what_training_saw(tmp_path, checkpoint):
    config = runs.digits(tmp_path, epochs=3, checkpoint__keep=3)
    train.run(config, tmp_path / 'run')
    scores = evaluate.evaluate(tmp_path / 'run', checkpoint=checkpoint)
    accuracies = {row['step']: row['test_accuracy'] for row in rows(tmp_path / 'run')}
    assert scores['accuracy'] == accuracies[scores['step']]
    if checkpoint == 'best':
        assert scores['accuracy'] == max(accuracies.values())


def test_evaluate_prints_scores_and_names_mistakes(tmp_path, capsys):
    train.run(runs.digits(tmp_path, epochs=1, optimizer__ema=0.5), tmp_path / 'run')
    capsys.readouterr()
    argv = ['evaluate', '--workdir', str(tmp_path / 'run')]
    assert cli.guarded(evaluate.main, argv) == 0
    printed = capsys.readouterr().out
    assert 'accuracy' in printed
    assert 'macro F1' in printed
    assert 'averaged parameters' in printed
    for extra, expected in (
        (['--checkpoint', '7'], "expected best, last or one of [4], got '7'"),
        (['--split', 'validation'], 'has no validation images'),
        (['--workdir', str(tmp_path / 'nowhere')], 'does not exist'),
    ):
        assert cli.guarded(evaluate.main, [*argv, *extra]) == 2
        error = capsys.readouterr().err
        assert error.count('\n') == 1
        assert expected in error


def test_validation_chooses_the_best_checkpoint(tmp_path, capsys):
    config = runs.digits(tmp_path, epochs=2, data__validation=0.2, data__limit=0, data__batch_size=128)
    summary = train.run(config, tmp_path / 'run')
    assert 'chosen on the test images' not in capsys.readouterr().out
    row = rows(tmp_path / 'run')[0]
    assert 'validation_accuracy' in row
    assert 'test_accuracy' not in row
    assert summary['best_validation_accuracy'] >= row['validation_accuracy']
    assert 'best_test_accuracy' in summary


@pytest.mark.parametrize('precision', ['bfloat16', 'float16', 'float64'])
def test_other_precisions(tmp_path, precision):
    summary = train.run(runs.digits(tmp_path, epochs=3, precision=precision), tmp_path / precision)
    assert summary['test_accuracy'] > 50


def test_batch_statistics_in_evaluation_and_the_whole_training_set(tmp_path, capsys):
    config = runs.digits(
        tmp_path,
        epochs=1,
        evaluate_with_batch_statistics=True,
        evaluate_train_set=True,
        optimizer__accumulate=3,
        data__channels=3,
        data__image_size=(28,),
        data__mean=(0.5,) * 3,
        data__std=(0.5,) * 3,
    )
    config.model = {'name': 'block_cnn', 'blocks': 1, 'batch_norm': True}
    train.run(config, tmp_path / 'run')
    assert 'train_set_accuracy' in rows(tmp_path / 'run')[0]
    note = 'accumulate  an update for 3 batches, 192 images; batch normalisation normalises each batch'
    assert note in capsys.readouterr().out
