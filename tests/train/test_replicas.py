"""Replicas: each is the single run with its seed or learning rate, and the numbers say how they spread."""

import json
import statistics

import jax
import numpy as np
import pytest
import runs

from flaxnets.errors import UserError
from train import cli, config_flags, data, evaluate, experiment, loop
from train import config as options
from train.checkpointing import init_from
from train.checkpointing.checkpoints import Checkpoints
from train.distributed.replicas import replica
from train.experiment import Experiment

# Batch normalisation, random candidates, dropout and augmentation depend on the seed.
MODELS = {
    'cnn': {},
    'branching_random': {
        'model__width': 4,
        'model__num_candidates': 9,
        'model__num_neighbors': 3,
        'data__augment__crop': 1,
    },
    'profiled_cnn': {
        'model__width': None,
        'model__widths': (3, 4),  # two layers are enough for its parts
        'model__hidden': (6, 5),
        'optimizer__ema': 0.9,
    },
}


def config_of(tmp_path, model='cnn', **changes):
    changes = {'epochs': 1, 'model__name': model, 'precision': 'float64'} | MODELS[model] | changes
    return runs.digits(tmp_path, **changes)


def values(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    return checkpoints.values(checkpoints.find('last'))


@pytest.mark.parametrize('model', MODELS)
def test_a_replica_is_the_run_with_its_seed(model, tmp_path):
    config = options.validate(config_of(tmp_path, model, replicas=2, seed=3))
    summary = loop.run(config, tmp_path / 'both')
    together = values(tmp_path / 'both')
    for i in range(2):
        alone = options.replica(config, i)
        assert alone.seed == 3 + i
        single = loop.run(alone, tmp_path / str(i))
        for name, value in values(tmp_path / str(i)).items():
            np.testing.assert_array_equal(together[name][i], value, err_msg=name)
        for key in ('test_loss', 'test_accuracy', 'train_loss', 'macro_f1', 'confusion'):
            assert summary['replicas'][i][key] == single[key], key
    each = [one['test_accuracy'] for one in summary['replicas']]
    assert summary['test_accuracy'] == pytest.approx(statistics.mean(each))
    assert summary['test_accuracy_sd'] == pytest.approx(statistics.stdev(each))


def test_a_sweep_is_the_runs_with_its_rates(tmp_path, capsys):
    changes = {'sweep__learning_rate': [1e-3, 3e-2], 'schedule__name': 'cosine', 'schedule__unit': 'step'}
    config = options.validate(config_of(tmp_path, schedule__warmup_epochs=0.5, **changes))
    summary = loop.run(config, tmp_path / 'both')
    assert 'learning rates 0.001, 0.03' in capsys.readouterr().out
    together = values(tmp_path / 'both')
    for i, rate in enumerate((1e-3, 3e-2)):
        alone = options.replica(config, i)
        assert (alone.seed, alone.optimizer.learning_rate) == (config.seed, rate)
        loop.run(alone, tmp_path / str(i))
        for name, value in values(tmp_path / str(i)).items():
            np.testing.assert_array_equal(together[name][i], value, err_msg=name)
        assert summary['replicas'][i]['learning_rate'] == rate


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('scans', [False, True])
def test_under_vmap_they_are_the_same(model, scans, tmp_path):
    """What an accelerator runs: one program for all replicas, step by step or a chunk."""
    config = options.validate(config_of(tmp_path, model, replicas=3, data__limit=64, data__batch_size=16))
    with experiment.precision(config):
        results = []
        for vmaps in (False, True):
            exp = Experiment.create(config, data.load_splits(config.data, ['train', 'test']))
            exp.runner.vmaps, exp.runner.scans = vmaps, vmaps and scans
            state, _ = exp.runner.train(exp.initial, exp.images['train'].feed(exp.epoch_rows(0)), 3)
            results.append((state, exp.evaluate(state, 'test')['loss']))
        (turns, loss), (vmapped, expected) = results
        assert loss == pytest.approx(expected, rel=1e-9)
        for one, other in zip(jax.tree.leaves(turns), jax.tree.leaves(vmapped), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


def test_all_that_is_written_gives_the_mean_the_deviation_and_each(tmp_path, capsys):
    config = config_of(tmp_path, epochs=2, replicas=2, evaluate_train_set=True, log__report=True)
    config.log.every = 2
    loop.run(config, tmp_path / 'run')
    printed = capsys.readouterr().out
    assert '2 in turns, seeds 0 to 1; on cpu that takes as long as 2 single runs' in printed
    assert ' ± ' in printed
    assert 'seed 1, learning rate 0.01: test accuracy' in printed
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    for row in rows:
        for key in ('train_loss', 'test_accuracy', 'train_set_loss'):
            each = [one[key] for one in row['replicas']]
            assert row[key] == pytest.approx(statistics.mean(each))
            assert row[f'{key}_sd'] == pytest.approx(statistics.stdev(each))
    table = (tmp_path / 'run' / 'metrics.csv').read_text().splitlines()
    assert 'test_accuracy_sd' in table[0]
    assert 'test_accuracy_replica1' in table[0]
    page = (tmp_path / 'run' / 'report' / 'index.html').read_text()
    assert 'Replicas; pictures are of the first' in page
    assert ' ± ' in page
    assert 'Not drawn' not in page
    best = max(rows, key=lambda row: (row['test_accuracy'], row['step']))
    found = evaluate.evaluate(tmp_path / 'run', checkpoint='best')
    assert found['step'] == best['step']
    assert found['accuracy'] == pytest.approx(best['test_accuracy'])
    assert [one['accuracy'] for one in found['replicas']] == [o['test_accuracy'] for o in best['replicas']]
    assert cli.guarded(evaluate.main, ['evaluate', '--workdir', str(tmp_path / 'run')]) == 0
    printed = capsys.readouterr().out
    assert 'replica 1: loss' in printed
    assert ' ± ' in printed


def test_replicas_continue_where_they_were(tmp_path):
    config = config_of(tmp_path, replicas=2, epochs=1)
    loop.run(config, tmp_path / 'run')
    config.epochs = 2
    loop.run(config, tmp_path / 'run')
    whole = loop.run(config, tmp_path / 'whole')
    for name, value in values(tmp_path / 'whole').items():
        np.testing.assert_array_equal(value, values(tmp_path / 'run')[name])
    again = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert again['replicas'] == whole['replicas']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'replicas': 0}, 'config.replicas: expected int at least 1, got 0'),
        (
            {'replicas': 2, 'parallel': 'pmap'},
            'config.replicas: expected parallel=single beside it, got pmap',
        ),
        (
            {'replicas': 2, 'parallel': 'fsdp'},
            'config.replicas: expected parallel=single beside it, got fsdp',
        ),
        ({'replicas': 2, 'parallel': 'jit'}, 'expected one device, where 2 replicas train at once, got 8'),
        ({'replicas': 2, 'devices': 2}, 'config.replicas: expected devices=1 beside it, got 2'),
        (
            {'replicas': 2, 'data__placement': 'stream'},
            'expected data.placement=device beside it, got stream',
        ),
        ({'replicas': 2, 'init_from__path': 'x.pt'}, 'expected no init_from.path beside it, got x.pt'),
        ({'sweep__learning_rate': [0.1]}, 'config.sweep.learning_rate: expected two or more numbers'),
        ({'sweep__learning_rate': ['a', 'b']}, 'config.sweep.learning_rate: expected two or more numbers'),
        ({'sweep__learning_rate': [0.1, 1], 'replicas': 3}, 'config.replicas: expected 1 or 2'),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError) as caught:
        loop.run(config_of(tmp_path, **changes), tmp_path / 'run')
    assert message in str(caught.value)


def test_weights_of_replicas_are_not_those_of_one_model(tmp_path):
    loop.run(config_of(tmp_path, replicas=2), tmp_path / 'run')
    with pytest.raises(UserError, match='expected a run of one model, got 2 replicas'):
        init_from.read(tmp_path / 'run')


def test_a_diverging_replica_is_named(tmp_path):
    config = config_of(tmp_path, sweep__learning_rate=[1e-3, 1e30], optimizer__name='sgd', epochs=3)
    with pytest.raises(UserError, match='training diverged at step'):
        loop.run(config, tmp_path / 'run')


def test_the_command_line_knows_a_sweep():
    argv = ['', '--config', 'configs/mnist.py:exercise=1,digits', '--config.sweep.learning_rate=[1e-3,1e-2]']
    assert config_flags.parse(argv)[0].sweep.learning_rate == (1e-3, 1e-2)


def test_a_replica_of_a_tree():
    assert replica({'a': np.arange(6).reshape(3, 2)}, 1)['a'].tolist() == [2, 3]
