import dataclasses
import json
import re

import numpy as np
import pytest
from made import CLASSES, history, make
from sklearn import metrics

from flaxnets.layers.framework.convnn_attention import ConvNNAttention
from flaxnets.layers.framework.knn_attention import KNNAttention
from train.reporting import (
    attention,
    choices,
    classes,
    curves,
    examples,
    figures,
    pictures,
    report,
    sheets,
    watch,
)
from train.reporting.page import Cell, number, table, word
from train.reporting.published import published
from train.reporting.tokens import grid_of


@pytest.fixture
def run(tmp_path):
    return make(tmp_path, width=4)


def texts(svg):
    return re.findall(r'<text[^>]*>([^<]*)</text>', svg)


def test_a_figure_becomes_svg_with_text_as_text_and_the_pages_colours():
    svg = figures.svg(curves.learning_curve(history(), 'accuracy'))
    assert svg.startswith('<svg')
    assert {'epoch', 'accuracy (%)', 'train 85.00%', 'test 82.50%'} <= set(texts(svg))
    assert 'var(--orange' in svg
    without_variables = re.sub(r'var\([^)]*\)', '', svg)
    assert not re.findall(r'#[0-9a-f]{6}', without_variables)  # any other colour would not follow the theme


def test_characters_that_the_font_lacks_are_no_warnings(tmp_path):
    drawn, axes = figures.figure()
    axes.set_title('日本')
    figures.png(drawn, tmp_path / 'drawn.png')
    assert '日本' in figures.svg(drawn)


def test_every_chart_names_its_axes():
    drawn = [
        curves.learning_curve(history(), 'loss'),
        curves.by_epoch(history(), 'seconds', 'training time (s)'),
        curves.overlay({'a': [history()], 'b': [history(), history(3)]}, 'test_loss', 'loss'),
        classes.accuracy([0.5, None, 1.0], CLASSES),
        classes.confusion_matrix(np.eye(3, dtype=int), CLASSES),
    ]
    for figure in drawn:
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert axes.get_ylabel()


def test_a_run_of_one_epoch_has_no_other_on_its_axis():
    axes = curves.learning_curve(history()[:1], 'loss').axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['1']


def test_the_axes_of_attention_maps_are_named_and_numbered():
    names = [f'head {number}' for number in (1, 2, 3, 4)]
    drawn = attention.draw(
        np.zeros((4, 4, 3), np.uint8), np.ones((2, 4, 2, 2)), ['block 1', 'block 2'], names
    )
    axes = drawn.axes[1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('head', 'block')
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['1', '2', '3', '4']
    assert attention.numbered(['layer 1, head 1', 'layer 2, head 1']) == (
        '',
        ['layer 1, head 1', 'layer 2, head 1'],
    )


def test_numbers_of_every_size_are_short():
    assert [curves.plain(value) for value in (0, 12345.6, 273.14, 0.60333)] == [
        '0',
        '12,346',
        '273.1',
        '0.6033',
    ]
    assert [curves.plain(value, tiny=True) for value in (0, 1e-4, 8e-5, 1.2346e-4)] == [
        '0',
        '1e-4',
        '8e-5',
        '1.235e-4',
    ]


def test_the_ticks_of_small_rates_are_of_one_kind():
    for rate, expected in ((1e-4, {'1e-4', '8e-5', '0'}), (1e-3, {'0.001', '0.0008', '0'})):
        rows = [{'epoch': epoch, 'learning_rate': rate} for epoch in (1, 2)]
        assert expected <= set(texts(figures.svg(curves.by_epoch(rows, 'learning_rate', 'learning rate'))))


def test_a_published_curve_or_level_stands_beside_ours():
    curve = {'curve': {'test_accuracy': [[1, 40.0], [2, 63.61]]}}
    assert 'test, published 63.61%' in texts(
        figures.svg(curves.learning_curve(history(), 'accuracy', published=curve))
    )
    rows = [row | {'train_set_accuracy': 80.0, 'ema_test_accuracy': 81.0} for row in history()]
    (axes,) = curves.learning_curve(rows, 'accuracy', published=curve).axes
    assert [line.get_label() for line in axes.lines if line.get_linestyle() == ':'] == [
        'test, published 63.61%'
    ]
    level = {'curve': {}, 'test_accuracy': 98.74}
    assert 'test, published 98.74%' in texts(
        figures.svg(curves.learning_curve(history(), 'accuracy', published=level))
    )


def test_scores_per_class_are_scikit_learns():
    random = np.random.default_rng(3)
    true, predicted = random.integers(0, 5, (2, 400))
    confusion = metrics.confusion_matrix(true, predicted)
    rows = classes.table(confusion.tolist(), list('abcde'))
    precision, recall, f1, images = metrics.precision_recall_fscore_support(true, predicted)
    for key, theirs in {'precision': precision, 'recall': recall, 'f1': f1, 'images': images}.items():
        np.testing.assert_allclose([row[key] for row in rows], theirs, rtol=0, atol=1e-12)


def test_a_class_without_images_or_predictions_has_no_score():
    rows = classes.table([[2, 0, 0], [0, 0, 0], [1, 0, 0]], CLASSES)
    assert [row['recall'] for row in rows] == [1.0, None, 0.0]
    assert [row['precision'] for row in rows] == [2 / 3, None, None]


def test_examples_are_chosen_as_they_say():
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.3, 0.1], [0.3, 0.7, 0], [0.95, 0, 0.05]])
    assert examples.confident_mistakes(labels, probabilities, 2) == [4, 1]
    assert examples.per_predicted_class(labels, probabilities, each=1) == {
        0: ([2], [0]),
        1: ([1], [3]),
        2: ([], []),
    }
    assert examples.samples(labels, each=1) == [0, 2, 4]
    tile = examples.answered(1, np.zeros((2, 2, 3), np.uint8), 0, probabilities[1], CLASSES)
    assert tile.lines == ('frog (80.0%)', 'true: cat & dog (20.0%)')
    assert tile.kind == 'wrong'


def test_a_sheet_escapes_names_and_contains_its_images():
    html = sheets.as_html([sheets.Tile(np.zeros((2, 2, 1), np.uint8), ('<b>',), 'wrong', 'image "1"')])
    assert '<b>' not in html
    assert 'src="data:image/png;base64,' in html


def test_tables_mark_numbers_and_sort_keys():
    html = table(['run', 'best'], [[word('a'), number(97.5)], [word('b'), number(None)]])
    assert '<th scope="col" class="number"><button type="button">best</button></th>' in html
    assert '<td class="number" data-value="97.5">97.50</td>' in html
    assert '<td class="number">–</td>' in html
    assert number(1234.0, ',.0f') == Cell('1,234', 1234.0)


@pytest.mark.parametrize(
    ('tokens', 'shape', 'grid'),
    [(256, (32, 32), (16, 16)), (8, (4, 8), (2, 4)), (65, (32, 32), None), (49, (28, 28), (7, 7))],
)
def test_grid_of_tokens(tokens, shape, grid):
    assert grid_of(tokens, shape) == grid


@pytest.mark.parametrize('name', ['convnn_all', 'convnn_spatial', 'branching_random', 'branching_attn'])
def test_neighbours_are_those_that_the_layer_gathers(tmp_path, name):
    pool = {} if name.endswith('all') else {'num_candidates': 9}
    run = make(tmp_path, name, width=4, num_layers=2, num_neighbors=4, **pool)
    images = run.inputs(run.shown)
    chosen = choices.chosen(run.model, images)
    assert [(choice.numbers.shape, choice.grid) for choice in chosen] == [((3, 16, 4), (4, 4))] * 2
    first = chosen[0].numbers
    tokens = np.asarray(images).reshape(3, 4, 2, 4, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(3, 16, 12)
    if name in ('convnn_all', 'convnn_spatial'):  # their similarities need nothing but the pixels
        unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
        similarity = unit @ unit.transpose(0, 2, 1)
        if name == 'convnn_spatial':
            grid = [row * 4 + column for row in (0, 2, 3) for column in (0, 2, 3)]
            best = np.asarray(grid)[np.argsort(-similarity[..., grid], axis=-1, kind='stable')[..., :3]]
            np.testing.assert_array_equal(first[..., 1:], best)
        else:
            gathered = np.take_along_axis(similarity, first, -1)
            np.testing.assert_allclose(gathered, -np.sort(-similarity, -1)[..., :4], atol=1e-6)
    assert (first[..., 0] == np.arange(16)).all()


VGG = {'shape': (32, 32, 3), 'convolutions': (1,) * 5, 'widths': (4,) * 5, 'hidden': (8, 8), 'pooled': 1}


@pytest.mark.parametrize('layer', ['convnn', 'branching'])
@pytest.mark.parametrize('sampling', ['all', 'random', 'grid'])
def test_neighbours_of_a_map_with_a_border(tmp_path, layer, sampling):
    run = make(tmp_path, 'vgg11', **VGG, layer=layer, sampling=sampling, num_neighbors=4, num_samples=8)
    images = run.inputs(run.shown)
    found = choices.chosen(run.model, images)
    assert [(choice.grid, choice.border) for choice in found] == [((n, n), 1) for n in (32, 16, 8, 4, 2)]
    rows, columns = found[0].places()
    own = np.arange(1024)
    assert (rows[..., 0] == own // 32).all()
    assert (columns[..., 0] == own % 32).all()
    padded = np.pad(np.asarray(images), ((0, 0), (1, 1), (1, 1), (0, 0)))
    gathered = padded[np.arange(3)[:, None, None], rows + 1, columns + 1]
    unit = gathered / np.maximum(np.linalg.norm(gathered, axis=-1, keepdims=True), 1e-12)
    near = (unit[:, :, :1] * unit).sum(-1)[..., 1:]
    assert (np.diff(near) < 1e-6).all()  # the most similar first
    if sampling == 'all':
        assert near.min() > 0.9
    else:
        candidates = np.unique(np.stack([rows[..., 1:], columns[..., 1:]]).reshape(2, -1), axis=1).T
        assert len(candidates) <= {'random': 8, 'grid': 64}[sampling]


def test_neighbours_in_position_are_the_square(tmp_path):
    position = {'similarity_of': 'position', 'similarity': 'euclidean', 'num_neighbors': 9}
    first = choices.chosen(*drawn(make(tmp_path, 'vgg11', **VGG, layer='convnn', **position)))[0]
    assert first.nearby() == 1
    square = {(row, column) for row in (4, 5, 6) for column in (-1, 0, 1)}  # the left column is the border
    rows, columns = first.places()
    assert set(zip(rows[0, 5 * 32].tolist(), columns[0, 5 * 32].tolist(), strict=True)) == square


def drawn(run):
    return run.model, run.inputs(run.shown)


@pytest.mark.parametrize('layer', ['convnn_attention', 'knn_attention', 'branch_conv'])
@pytest.mark.parametrize('sampling', ['all', 'random'])
def test_neighbours_of_patches_are_those_of_the_first_head(tmp_path, layer, sampling):
    options = {'blocks': 2, 'width': 8, 'mlp_width': 8, 'patch_size': 2, 'heads': 2, 'num_neighbors': 4}
    run = make(tmp_path, 'vit_tiny', **options, layer=layer, sampling=sampling, num_samples=8)
    found = choices.chosen(*drawn(run))
    assert [(choice.numbers.shape, choice.grid) for choice in found] == [((3, 16, 4), (4, 4))] * 2
    kind = KNNAttention if layer == 'knn_attention' else ConvNNAttention
    ((_, (keys, queries, *pool), _), *_) = watch.calls(*drawn(run), kind, 'choose')
    scores = np.einsum('btc,bnc->btn', keys[::2], queries[::2])[:, 1:]
    if not pool or pool[0] is None:
        np.testing.assert_array_equal(found[0].numbers, np.argsort(-scores, axis=-1)[..., :4] - 1)
    else:
        assert (found[0].numbers[..., 0] == np.arange(16)).all()
        assert set(found[0].numbers[..., 1:].flat) <= set((np.asarray(pool[0]) - 1).tolist())
    assert found[0].numbers.min() >= choices.NOWHERE
    assert found[0].numbers.max() < 16


def test_watching_leaves_the_layer_as_it_was(run):
    method = type(run.model).__call__
    watch.calls(run.model, run.inputs(run.shown), type(run.model), '__call__')
    assert type(run.model).__call__ is method


TINY = {'blocks': 2, 'width': 8, 'mlp_width': 8, 'patch_size': 2, 'heads': 2}
BRANCHING = {'width': 4, 'num_layers': 2, 'num_candidates': 9, 'num_neighbors': 4}


@pytest.mark.parametrize(
    ('name', 'model_options', 'expected'),
    [
        ('branching_attn', BRANCHING, {'neighbours_1', 'neighbours_2', 'kernels'}),
        ('vgg11', VGG, {'kernels', *(f'neighbours_{n}' for n in range(1, 6))}),
        ('vit', {'blocks': 2, 'heads': 2, 'width': 4}, {'attention_1', 'attention_2', 'attention_3'}),
        ('attention', {'width': 4, 'num_heads': 2}, {'attention_1', 'attention_2', 'attention_3'}),
        ('vit_tiny', TINY | {'layer': 'attention'}, {'attention_1', 'attention_2', 'attention_3'}),
        ('expert_cnn', {'blocks': 2, 'width': 8}, {'experts', 'kernels'}),
        ('mnist_cnn', {'widths': (4, 4)}, {'kernels'}),
        ('mlp', {}, set()),
    ],
)
def test_a_report_has_its_models_pictures(tmp_path, name, model_options, expected):
    run = make(tmp_path, name, **model_options)
    path = report.write(run, tmp_path / 'report')
    numbers = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert numbers['not_drawn'] == []
    there = {png.stem for png in path.parent.glob('*.png')}
    training = {'loss', 'accuracy', 'learning_rate', 'seconds', 'images_per_second'}
    scores = {'class_accuracy', 'confusion', 'mistakes', 'predicted_classes', 'samples'}
    assert training | scores | expected == there
    html = path.read_text()
    assert all(f'id="{stem}"' in html for stem in there)
    assert 'cat &amp; dog' in html
    assert ('border of zeros' in html) == (name == 'vgg11')
    assert 'cat & dog' not in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)  # nothing from outside
    ids = re.findall(r'<(?:section|figure)[^>]* id="([^"]*)"', html)
    assert len(set(ids)) == len(ids) > len(there)


def test_neighbours_where_the_initial_values_are_not_known(tmp_path):
    run = dataclasses.replace(make(tmp_path, 'branching_attn', **BRANCHING), initial=None)
    first, _ = pictures.neighbour_choices(run)
    assert first.figure.axes[0].get_title(loc='left') == 'after training'
    assert first.caption.endswith('after. The values that the run started from are not known any more.')


def test_a_picture_that_cannot_be_drawn_is_named_on_the_page(run, tmp_path, monkeypatch):
    def broken(run):
        """A broken picture."""
        raise ValueError('no <ink>')
        yield

    monkeypatch.setitem(pictures.SECTIONS, 'Mistakes', (broken, pictures.mistakes))
    path = report.write(run, tmp_path / 'report')
    assert 'Not drawn: A broken picture (ValueError: no &lt;ink&gt;).' in path.read_text()
    assert (path.parent / 'mistakes.png').exists()


def test_converted_weights_have_a_page_without_curves(run, tmp_path):
    page = report.write(dataclasses.replace(run, history=[]), tmp_path)
    assert 'Not drawn' not in page.read_text()
    assert not {'loss.png', 'learning_rate.png', 'seconds.png'} & {file.name for file in tmp_path.iterdir()}


def test_the_published_run_of_a_config_is_found():
    from configs import branching_attn, mnist

    assert published(branching_attn.get_config())['curve']['test_accuracy'][0] == [1, 42.4]
    assert published(branching_attn.get_config('digits')) is None
    assert published(mnist.get_config('exercise=3b'))['test_accuracy'] == 98.7
    assert published(mnist.get_config('exercise=6c'))['test_accuracy'] == 98.72
