"""`train.reproduce`: suites against the documents, verdicts, records, and a small suite from end to end."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest
import runs

from flaxnets.errors import UserError
from train import cli, published, reproduce
from train.reproduction import check, findings, golden, html, page, records, runner, suites, table
from train.reproduction.statements import FINDINGS
from train.reproduction.suites import EXPERIMENTS, Experiment

TINY = Experiment(
    'mnist/tiny',
    'configs/mnist.py:exercise=1,digits',
    {'test_accuracy': 97.0, 'curve': {}},
    {'epochs': 1, 'data.limit': 64, 'model.hidden': '(8,)', 'log.tensorboard': False},
)


# `train.reproduce` with a suite of one run, whose epochs stand last on the command line.
SUITE = """
import sys
from train import cli, reproduce
from train.reproduction.suites import EXPERIMENTS, Experiment
settings = {'epochs': int(sys.argv.pop()), 'log.tensorboard': False}
published = {'test_accuracy': 97.0, 'curve': {}}
EXPERIMENTS.clear()
config = 'configs/mnist.py:exercise=1,digits'
EXPERIMENTS['mnist/tiny'] = Experiment('mnist/tiny', config, published, settings)
sys.exit(cli.guarded(reproduce.main, sys.argv))
"""


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(runs.ROOT)


def record(name, accuracy, seed=0, **scores):
    """A made-up record, its scores alone filled in."""
    scores = {'test_accuracy': accuracy, 'best_test_accuracy': accuracy} | scores
    curve = {'test_accuracy': [accuracy - 1, accuracy], 'seconds': [1.0, 2.0]}
    return {'experiment': name, 'seed': seed, 'scores': scores, 'curve': curve}


def test_the_suites_have_every_published_run():
    sizes = {'convnn': 30, 'block_cnn': 6, 'expert_cnn': 1, 'vit': 6, 'profiled': 4, 'mnist': 10}
    assert {suite: len(suites.select(suite)) for suite in sizes} == sizes
    assert len(suites.select('all')) == 57
    assert len(suites.select('convnn', 'branching*')) == 12
    assert {e.name for e in suites.select('profiled')} != {
        e.name for e in suites.select('profiled', weights=True)
    }


@pytest.mark.parametrize('name', ['convnn/attention-8', 'block_cnn/4', 'vit/learned-gelu', 'mnist/6b'])
def test_a_config_is_the_published_recipe(name):
    config = records.resolved(EXPERIMENTS[name])
    file, facts = {
        'convnn/attention-8': ('convnn_cifar10', {'name': 'attention', 'num_layers': 8}),
        'block_cnn/4': ('block_cnn_cifar10', {'name': 'block_cnn', 'blocks': 4, 'oversight': True}),
        'vit/learned-gelu': ('vit_cifar10_even', {'activation': 'gelu', 'position': 'learned', 'width': 12}),
        'mnist/6b': ('mnist', {'name': 'mnist_cnn'}),
    }[name]
    recipe = published.document(file)['recipe']
    assert facts.items() <= config.model.to_dict().items()
    assert config.data.batch_size == recipe['batch_size']
    assert config.epochs == recipe.get('epochs', 35)
    assert config.optimizer.learning_rate == recipe.get('lr', 5e-4)


def test_published_figures_have_one_set_of_names():
    block = EXPERIMENTS['block_cnn/4'].published
    assert block['curve']['test_accuracy'][0] == [1, 10.0]
    assert block['curve']['test_accuracy'][-1] == [51, block['test_accuracy']]
    assert EXPERIMENTS['vit/learned-relu'].published['train_accuracy'] == 44.6
    assert EXPERIMENTS['expert_cnn/8-blocks'].published['curve']['test_loss'][0][0] == 61
    assert EXPERIMENTS['mnist/1'].published['seconds'] == 199
    assert published.interval('over 97') == (97, 100)
    assert published.interval('almost 99') == (98, 99)
    assert published.interval(43.62) == (43.62, 43.62)


@pytest.mark.parametrize(
    ('ours', 'verdict', 'distance'),
    [
        ([44.5], 'reproduced', 0.88),
        ([45.0], 'differs', 1.38),
        ([44.0, 46.0], 'reproduced', 1.38),
        ([], '', None),
    ],
)
def test_verdicts(ours, verdict, distance):
    made = [record('vit/cosine-relu', accuracy, seed) for seed, accuracy in enumerate(ours)]
    (row,) = [row for row in table.rows(made) if row.experiment.name == 'vit/cosine-relu']
    assert row.verdict() == verdict
    assert row.distance() == (pytest.approx(distance) if distance else distance)


def test_an_accuracy_above_a_published_bound_is_no_distance():
    (row,) = [row for row in table.rows([record('mnist/1', 98.4)]) if row.records]
    assert (row.distance(), row.verdict()) == (0, 'reproduced')


def test_findings_are_decided_by_records():
    made = [record('block_cnn/10-batch-norm', 55.0), record('block_cnn/10', 10.0)]
    results = {r.finding.statement: r for r in findings.decide(FINDINGS, made)}
    assert results['With batch normalisation, 10 blocks train'].confirmed is True
    assert results['Learned positions are better than the cosine table'].confirmed is None
    made[0]['scores']['test_accuracy'] = 12.0
    assert findings.decide(FINDINGS, made)[3].confirmed is False


def test_golden_numbers_tell_models_apart():
    def numbers(**options):
        return golden.numbers(
            'mnist_cnn', {'widths': (2, 2, 2)} | options, num_classes=3, image_shape=(8, 8, 1)
        )

    assert golden.same(numbers(), numbers())
    assert golden.same(numbers(), numbers(order='pool_act'))  # document 004: they are the same function
    assert not golden.same(numbers(), numbers(activation='tanh'))
    assert not golden.same(numbers(residual=1), numbers(residual=1, batch_norm=True))


def test_shards_are_a_partition():
    jobs = runner.jobs(suites.select('mnist'), 3, runs.ROOT / 'none', {})
    parts = [runner.shard(jobs, f'{i}/4') for i in (1, 2, 3, 4)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in jobs)
    assert len(jobs) == 30
    for wrong in ('0/2', '3/2', '2', 'a/b'):
        with pytest.raises(UserError, match='--shard: expected I/N'):
            runner.shard(jobs, wrong)


def test_time_left_goes_by_suite():
    assert runner.remaining([('vit', 10.0), ('mnist', 2.0)], ['mnist', 'vit', 'convnn']) == 2 + 10 + 6


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['convn'], "there is no 'convn'. Did you mean convnn"),
        (['vit', '--only', 'learnt*'], "'learnt*' matches none of vit"),
        (['vit', '--seeds', '0'], '--seeds: expected at least 1'),
        (['vit', '--shard', '2/1'], '--shard: expected I/N'),
    ],
)
def test_mistakes_are_one_line(flags, message, capsys):
    assert cli.guarded(reproduce.main, ['train.reproduce', *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_list(capsys):
    reproduce.main(['train.reproduce', 'vit', '--list'])
    said = capsys.readouterr().out
    assert '--config configs/vit.py:position=learned,activation=gelu' in said
    assert 'test_accuracy 46.44' in said


def test_a_suite_from_end_to_end(tmp_path, monkeypatch, capfd):
    broken = dataclasses.replace(
        TINY, name='mnist/broken', overrides=TINY.overrides | {'optimizer.name': 'sdg'}
    )
    monkeypatch.setitem(suites.EXPERIMENTS, 'mnist/broken', broken)
    monkeypatch.setitem(suites.EXPERIMENTS, 'mnist/tiny', TINY)
    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path / 'cache'))
    folder = tmp_path / 'results'
    flags = ['--workdir', str(tmp_path / 'runs'), '--records', str(folder)]
    command = ['train.reproduce', 'mnist', '--only', '[bt][ri][on][ky]*', *flags]

    assert cli.guarded(reproduce.main, command) == 2
    said = capfd.readouterr()
    assert '[1/2] mnist/broken seed 0: failed with exit code 2; the others go on' in said.out
    assert re.search(r'\[2/2\] mnist/tiny seed 0: test accuracy [\d.]+% \(published 97.0\)', said.out)
    assert '1 of 2 runs finished' in said.out
    assert "expected one of adam, adamw, sgd, got 'sdg'" in said.err

    monkeypatch.delitem(suites.EXPERIMENTS, 'mnist/broken')
    assert cli.guarded(reproduce.main, command) == 0
    assert '0 of 0 runs finished, 1 were finished before' in capfd.readouterr().out

    there, refused = records.read(folder)
    assert refused == []
    (only,) = there
    assert only['config']['epochs'] == len(only['curve']['test_accuracy']) == 1
    assert only['scores']['parameters'] == only['scores']['published_parameters']
    assert sum(map(sum, only['scores']['confusion'])) == 64
    assert re.fullmatch(r'[0-9a-f]{40}(-changed)?|unknown', only['commit'])
    assert only['hardware']['cores'] >= 1

    records.write(only | {'golden': only['golden'] | {'loss': [0.1]}}, folder)
    assert 'computes something else since commit' in records.read(folder)[1][0]
    records.write(only | {'config': only['config'] | {'optimizer.learning_rate': 0.5}}, folder)
    assert 'optimizer.learning_rate 0.5 there' in records.read(folder)[1][0]


def test_a_shortened_suite_says_what_it_has_seen(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(suites.EXPERIMENTS, 'mnist/tiny', TINY)
    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path / 'cache'))
    short = ['--epochs', '2', '--limit', '50', '--test-limit', '20']
    flags = ['--workdir', str(tmp_path), '--records', str(tmp_path / 'results')]
    reproduce.main(['train.reproduce', 'mnist', '--only', 'tiny', *short, *flags])
    said = capfd.readouterr().out
    assert '[1/1] mnist/tiny seed 0: 100 images seen' in said
    assert '1 experiments ran with epochs 2, data.limit 50, data.test_limit 20: 100 images seen' in said
    assert 'No verdict' in said
    assert 'published' not in said
    assert not (tmp_path / 'results').exists()
    assert '100 images seen' in check.read(tmp_path)
    summary = json.loads((tmp_path / 'mnist' / 'tiny-seed0' / 'summary.json').read_text())
    assert sum(map(sum, summary['confusion'])) == 20


def test_a_signal_saves_the_run_and_ends_the_suite(tmp_path):
    """And the same command goes on."""
    script = tmp_path / 'suite.py'
    script.write_text(SUITE)
    flags = ['mnist', '--workdir', str(tmp_path / 'runs'), '--records', str(tmp_path / 'results')]
    environment = os.environ | {'PYTHONPATH': str(runs.ROOT), 'FLAXNETS_CACHE': str(tmp_path / 'cache')}
    command = [sys.executable, '-u', str(script), *flags]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    with subprocess.Popen([*command, '100000'], cwd=runs.ROOT, env=environment, **pipes) as process:
        for line in process.stdout:
            if line.startswith('epoch'):
                break
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert 'stopped by SIGTERM: mnist/tiny seed 0 is saved' in rest
    saved = max(int(path.name) for path in (tmp_path / 'runs/mnist/tiny-seed0/checkpoints').iterdir())
    epochs = str(saved // 45 + 1)  # steps an epoch: 1,438 images in batches of 32
    done = subprocess.run([*command, epochs], cwd=runs.ROOT, env=environment, check=False, **pipes)
    assert f'resumed at step {saved}' in done.stdout
    assert '1 of 1 runs finished' in done.stdout


def test_the_pages_are_made_of_the_records_in_the_repository():
    there, refused = records.read(runs.ROOT / 'results', golden=False)
    assert there
    assert refused == []
    assert (runs.ROOT / 'docs' / 'reproduction.md').read_text() == page.markdown(
        there, [], check.read(runs.ROOT / 'results')
    )
    readme = (runs.ROOT / 'README.md').read_text()
    assert page.readme(readme, there) == readme
    assert (runs.ROOT / 'results' / 'reproduction.csv').read_text() == table.table_csv(table.rows(there))
    for made in re.findall(r'<svg.*?</svg>', html.page(there)):
        xml.fromstring(made)


def test_records_name_no_folder_of_their_machine():
    for path in (runs.ROOT / 'results').glob('*/*.json'):
        assert not re.search(r'"[^"]*/(home|root|tmp|work)/', path.read_text()), path
        assert list(json.loads(path.read_text())['config'])
