"""The framework's suites: recipes and figures as logged, best compared with best, and their page."""

import json

import pytest
import runs
from flax import nnx

import flaxnets
from train import config as options
from train import published
from train.reproduction import framework_page, page, records, suites, table
from train.reproduction.suites import EXPERIMENTS


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(runs.ROOT)


def record(name, accuracy, seed=0, **scores):
    """A made-up record whose final accuracy is 5 points below its best."""
    scores = {'test_accuracy': accuracy - 5, 'best_test_accuracy': accuracy} | scores
    return {'experiment': name, 'seed': seed, 'scores': scores, 'curve': {'seconds': [1.0]}}


def test_the_suites_have_every_configuration():
    sizes = {'ratio': 108, 'neighbors': 26, 'samples': 240, 'vit': 144, 'small': 3}
    assert {name: len(suites.select(f'framework_{name}')) for name in sizes} == sizes
    assert len(suites.select('framework_ratio', 'cifar100-*-r0.5')) == 6
    assert not {e.suite for e in suites.select('all')} & {f'framework_{name}' for name in sizes}


@pytest.mark.parametrize(
    ('name', 'model', 'epochs', 'data'),
    [
        (
            'framework_ratio/cifar100-euclidean-both-features-r0.125',
            {'ratio': 0.125, 'similarity': 'euclidean', 'similarity_of': 'both', 'num_neighbors': 9},
            150,
            'cifar100',
        ),
        ('framework_neighbors/cifar10-euclidean-r0.5-K12', {'num_neighbors': 12}, 100, 'cifar10'),
        (
            'framework_samples/cifar10-cosine-r1-grid-N8',
            {'sampling': 'grid', 'num_samples': 8, 'ratio': 1.0, 'aggregation': 'features'},
            150,
            'cifar10',
        ),
        ('framework_vit/cifar10-attention-heads3', {'layer': 'attention', 'heads': 3}, 150, 'cifar10'),
        (
            'framework_vit/cifar100-convnn_attention-standard-all-K16',
            {'layer': 'convnn_attention', 'convolution': 'standard', 'num_neighbors': 16},
            150,
            'cifar100',
        ),
        ('framework_vit/cifar10-knn_attention-K100', {'num_neighbors': 100, 'heads': 1}, 150, 'cifar10'),
    ],
)  # fmt: skip
def test_a_config_is_the_logged_recipe_and_its_network_has_the_logged_parameters(name, model, epochs, data):
    experiment = EXPERIMENTS[name]
    config = records.resolved(experiment)
    recipe = published.document(published.FRAMEWORK)['recipe']
    assert model.items() <= config.model.to_dict().items()
    assert (config.epochs, config.data.name) == (epochs, data)
    assert config.data.batch_size == recipe['batch_size']
    assert config.optimizer.name == recipe['optimizer']
    assert config.optimizer.learning_rate == recipe['lr']
    assert config.optimizer.weight_decay == recipe['weight_decay']
    assert config.optimizer.clip_norm == recipe['clip_grad_norm']
    assert config.schedule.name == 'constant'

    def create():
        shape = records.image_shape(data, config.data.image_size)
        made = options.model_options(config) | {'num_classes': int(data[5:]), 'image_shape': shape}
        return flaxnets.create_model(config.model.name, **made, rngs=nnx.Rngs(0))

    assert flaxnets.count_parameters(nnx.eval_shape(create)) == experiment.published['parameters']


def test_repeats_are_one_figure():
    runs_of = EXPERIMENTS['framework_neighbors/cifar10-euclidean-r0.5-K9'].published
    single = [
        dict(zip(group['columns'], run, strict=True))
        for group in published.document(published.FRAMEWORK)['groups'].values()
        for run in group['runs']
        if group['same'].get('epochs') == 100
    ]
    best = [
        run['best_test_accuracy']
        for run in single
        if (run['K'], run['dataset'], run['branch_ratio']) == (9, 'cifar10', 0.5)
    ]
    assert len(best) == runs_of['runs'] == 3
    assert runs_of['best_test_accuracy'] == pytest.approx(sum(best) / 3, abs=1e-3)


def test_best_is_compared_with_best():
    made = [record('framework_ratio/cifar10-cosine-features-features-r0.5', 83.0)]
    (row,) = [row for row in table.rows(made, ['framework_ratio']) if row.records]
    assert row.distance() == pytest.approx(83.0 - 82.79)
    assert row.verdict() == 'reproduced'
    assert framework_page.cell(row) == '83.00 / 82.79'


def test_the_order_of_the_ratios_is_said():
    def said(half, none, one):
        figures = {'0.5': half, '0': none, '1': one}
        made = [
            record(f'framework_small/ratio-{share}', mean + seed, seed)
            for share, mean in figures.items()
            for seed in (0, 1, 2)
        ]
        found = {row.experiment.short[6:]: row for row in table.rows(made, [framework_page.SMALL])}
        return framework_page.order(found)[0]

    seen = said(52, 50, 40)
    assert 'at least as good as 0 appears: +2.00 points (published +1.99), standard error 0.82' in seen
    assert 'below 0 appears: -10.00 points (published -25.49)' in seen
    assert 'at least as good as 0 does not appear: -1.00 points' in said(49, 50, 40)
    assert 'below 0 does not appear: -2.00 points' in said(52, 50, 48)


def test_the_page_is_made_of_the_records_in_the_repository():
    there = [json.loads(path.read_text()) for path in (runs.ROOT / 'results').glob('framework_*/*.json')]
    assert (runs.ROOT / 'docs' / 'reproduction_framework.md').read_text() == page.framework(there)
