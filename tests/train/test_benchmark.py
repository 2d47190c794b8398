"""`python -m train.benchmark`: every number is there, from a small set; the picture shows what it says."""

import json
import re
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

from flaxnets import interop
from train import benchmark, build, cli, experiment
from train import config as options
from train.benchmarks import data as benchmark_data
from train.benchmarks import memory as benchmark_memory
from train.benchmarks import sample, timing, training, training_tables
from train.benchmarks import tables as benchmark_tables
from train.data.imageset import ImageSet
from train.data.sources.names import CIFAR10
from train.terminal import terminal
from train.torch_reference import convnn, loader
from train.torch_reference import training as torch_training

ONE_ROUND = ['--images', '40', '--rounds', '1', '--batch_size', '16', '--workers', '1']


@pytest.fixture(scope='module')
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    return ImageSet.of(pixels, np.arange(50) % 10, CIFAR10, name='cifar10', split='train')


@pytest.fixture(scope='module')
def folders(images, tmp_path_factory):
    root = tmp_path_factory.mktemp('cifar')
    sample.write_pickles(images, root)
    shutil.copy(root / 'cifar-10-batches-py' / 'data_batch_1', root / 'cifar-10-batches-py' / 'test_batch')
    return ['--data_dir', str(root), '--cache_dir', str(root / 'cache')]


def test_it_measures_what_it_promises(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path))
    monkeypatch.setattr(benchmark_data, 'STEPS', 1)
    in_process = loader.loader
    monkeypatch.setattr(loader, 'loader', lambda dataset, size, _: in_process(dataset, size, 0))
    file = tmp_path / 'numbers.json'
    argv = ['benchmark', '--data', *folders, *ONE_ROUND, '--json', str(file)]
    assert cli.guarded(benchmark.main, argv) == 0
    results = json.loads(file.read_text())
    assert {'processor', 'cores', 'device', 'available_memory', 'versions'} <= set(results['hardware'])
    measured = results['data']
    assert measured['images'] == 40
    both = {'decode', 'torch'}
    forms = {form: set(row) for form, row in measured['sources'].items()}
    assert forms == {
        sample.ARRAY_RECORD: both,
        sample.TF_RECORD: {'decode'},
        sample.FOLDER: both,
        sample.TORCHVISION: both,
        benchmark_data.CACHE: both,
    }
    assert set(measured['placements']) == {'device', 'stream', 'torch'}
    assert all(rate > 0 for row in measured['sources'].values() for rate in row.values())
    assert measured['step']['whole'] > 0
    resident = measured['memory']['resident']
    assert resident['images'] == 60 * 3072
    assert measured['memory']['decode']['peak'] < 1e9
    printed = capsys.readouterr().out
    for word in (
        'cores',
        'torch cannot read it',
        'stream placement',
        'cnn step',
        'goal: under 3%',
        'at most',
    ):
        assert word in printed


def test_without_torch_its_columns_say_so(images, monkeypatch, capsys):
    monkeypatch.setitem(__import__('sys').modules, 'train.torch_reference.loader', None)
    monkeypatch.delattr('train.torch_reference.loader', raising=False)
    assert benchmark_data.torch_readers(options.defaults(), images, {}) == {}
    rates = {sample.FOLDER: {'decode': 12345.0}}
    terminal().print(benchmark_tables.sources(rates, 'title', 2))
    terminal().print(benchmark_tables.placements({'device': 12345.0}, 'title'))
    assert capsys.readouterr().out.count('torch is not installed') == 2


def test_every_format_has_the_same_images(images, tmp_path):
    config = options.defaults()
    for form, place in sample.write(images, tmp_path / 'files').items():
        config.data.update(source=sample.SOURCES[form], data_dir=str(place))
        got = benchmark_data.decode(benchmark_data.locate.find(config.data))
        seen = sorted((image.tobytes(), label) for image, label in zip(got.images, got.labels, strict=True))
        known = sorted((i.tobytes(), label) for i, label in zip(images.images, images.labels, strict=True))
        assert seen == known, form


def test_torch_items_are_crops_of_the_padded_image_or_of_its_mirror(images):
    dataset = loader.Augmented(images, loader.as_item, 2, [0.5] * 3, [0.25] * 3)
    for i in range(5):
        item, label = dataset[i]
        assert label == images.labels[i]
        pixels = np.round((item.numpy() * 0.25 + 0.5) * 255).transpose(1, 2, 0)
        padded = np.pad(images.images[i], ((2, 2), (2, 2), (0, 0)))
        windows = [padded[y : y + 32, x : x + 32] for y in range(5) for x in range(5)]
        assert any((pixels == w).all() or (pixels == w[:, ::-1]).all() for w in windows)


def test_alternate_takes_turns_and_leaves_out_the_first():
    calls = []
    seconds = timing.alternate({name: lambda name=name: calls.append(name) for name in 'ab'}, 3)
    assert calls == list('ab' * 4)
    assert {name: len(each) for name, each in seconds.items()} == {'a': 3, 'b': 3}
    assert timing.rate(10, [1.0, 2.0, 30.0]) == 5


def test_what_comes_before_a_round_is_not_counted():
    before = {'a': lambda: time.sleep(0.3)}
    seconds = timing.alternate({'a': lambda: None, 'b': lambda: None}, 2, before)
    assert max(seconds['a']) < 0.2


def test_memory_of_the_digits(tmp_path, monkeypatch):
    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path))
    settings = options.defaults().data
    settings.name = 'digits'
    assert benchmark_memory.resident(settings)['images'] == 1797 * 64
    assert benchmark_memory.decode(settings)['images'] == 1797 * 64


def test_the_preview_shows_the_images_and_below_them_other_ones(images, folders, tmp_path, capsys):
    file = tmp_path / 'seen.png'
    assert cli.guarded(benchmark.main, ['benchmark', '--data', '--preview', str(file), *folders]) == 0
    assert 'seen.png' in capsys.readouterr().out
    picture = np.asarray(Image.open(file))
    pen, step = benchmark_data.preview.TEXT, benchmark_data.preview.SIDE + benchmark_data.preview.MARGIN
    cells = picture[:, pen:].reshape(len(benchmark_data.preview.ROWS), step, -1, step, 3)
    shown = cells[:, 1::20, :, 1::20]  # a few pixels of every image
    assert shown.shape[2] == 10
    assert not (shown[1:] == shown[0]).all((1, 3, 4)).all(1).any()


TINY = ['--config.model.num_layers=1', '--config.model.width=4', '--config.data.batch_size=4']
NEAREST = 'configs/convnn.py:model=convnn_random,digits'


def test_training_is_measured_beside_pytorch(tmp_path, capsys):
    file, page = tmp_path / 'numbers.json', tmp_path / 'page.md'
    page.write_text('before\n<!-- benchmark cpu -->\n<!-- /benchmark cpu -->\nafter\n')
    argv = ['--config', NEAREST, '--config', 'configs/convnn.py:model=cnn,digits', *TINY]
    argv += ['--against', 'eager', '--variants', '--rounds', '2', '--seconds', '0.001', '--json', str(file)]
    assert cli.guarded(benchmark.main, ['benchmark', *argv]) == 0
    printed = capsys.readouterr().out
    nearest, plain = json.loads(file.read_text())['training']
    always = {training.EAGER, training.OTHER_LOOP, training.REPLICAS}
    assert set(nearest['train_ratio']) == always | {training.PUBLISHED, training.TOP_K}
    assert set(plain['train_ratio']) == always
    assert nearest['failed'] == plain['failed'] == {}
    for row in (nearest, plain):
        for key in ('steps_per_second', 'images_per_second', 'evaluated_per_second', 'compile_seconds'):
            assert row[key] > 0, key
        for key in ('dispatch_seconds', 'share_of_peak', 'flops', 'parameters'):
            assert row[key] > 0, key
        assert row['first_step_seconds'] > row['compile_seconds']
        assert row['memory']['peak'] >= row['memory']['temporary'] > 0
        for values in (*row['train'].values(), *row['evaluate'].values(), *row['train_ratio'].values()):
            assert 0 < values['low'] <= values['high']
    # Forward, gradient of the kernels, gradient of the input but for the first layer; 4 images.
    assert plain['flops'] == 2 * 4 * (2 * 32 * 32 * 9 * 3 * 4 + 3 * 32 * 32 * 4 * 10)
    for word in ('images/s', 'of peak', 'published', 'top_k', 'load'):
        assert word in printed
    assert cli.guarded(benchmark.main, ['benchmark', '--from', str(file), '--into', str(page)]) == 0
    text = page.read_text()
    assert text.startswith('before\n<!-- benchmark cpu -->\nMeasured on ')
    assert text.endswith('<!-- /benchmark cpu -->\nafter\n')
    assert '| convnn:model=cnn,digits |' in text
    page.write_text('<!-- benchmark cpu short -->\n<!-- /benchmark cpu short -->\n')
    assert cli.guarded(benchmark.main, ['benchmark', '--from', str(file), '--into', str(page)]) == 0
    assert re.search(r'\| plain convolutions \| cnn,digits [\d.]+ \([\d.]+\) \|\n', page.read_text())


@pytest.mark.parametrize(
    'settings',
    [
        {'optimizer.name': 'sgd', 'optimizer.momentum': 0.9, 'loss.softmax_twice': True},
        {'optimizer.name': 'adamw', 'optimizer.weight_decay': 0.1},
    ],
)
def test_pytorch_trains_the_same(settings, tmp_path):
    """From our initial values, its first step leads to our values."""
    config = options.defaults()
    config.model.update(name='cnn', width=4)
    options.embedded_digits(config, image_size=8, channels=1)
    config.update_from_flattened_dict(settings | {'precision': 'float64', 'data.batch_size': 8})
    config = options.validate(config)
    config.parallel = 'single'
    with experiment.precision(config):
        ours = training.Ours(config)  # it has made a step
        twin = torch_training.Training(config, ours.sets)
        values = interop.to_torch(build.create_model(config, ours.sets['train']))
        twin.model.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in values.items()})
        order = ours.rows['train'].ravel()
        twin.splits['train'] = tuple(values[order] for values in twin.splits['train'])
        twin.train(1)
        expected = {k: v.detach().numpy() for k, v in twin.model.state_dict().items()}
        now = ours.exp.runner.task.structure.merge(ours.state.params, ours.state.stats)
        for name, value in interop.to_torch(now).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12)


def test_no_config_begins_after_the_minutes():
    configs = {'cnn': options.defaults()}
    assert list(training.measure(configs, minutes=-1)) == []


def test_what_fails_is_named_in_the_results(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError('no compiler\nat all')

    monkeypatch.setattr(torch_training, 'Training', broken)
    config = options.defaults()
    config.model.update(name='cnn', width=2)
    options.embedded_digits(config, image_size=4, channels=1)
    config.data.batch_size = 2
    (row,) = training.measure(
        {'tiny': options.validate(config)}, against=[training.COMPILED], rounds=1, seconds=0.001
    )
    assert row['failed'] == {training.COMPILED: 'RuntimeError: no compiler'}
    assert training_tables.failures([row]) == ['tiny: torch.compile: RuntimeError: no compiler']


def test_the_published_way_to_gather_gives_the_same():
    layer = convnn.NearestConv1d('all', 3, 4, (4, 4), convnn.DEFAULTS | {'num_neighbors': 3})
    tokens = torch.randn(2, 3, 16)
    flat = layer(tokens, None)
    layer.expanded = True
    torch.testing.assert_close(layer(tokens, None), flat)


def test_a_goal_missed_says_by_how_much():
    row = {'model': 'vit', 'train_ratio': {training.EAGER: {'median': 0.9}}}
    assert training_tables.verdict(row, 'cpu') == '1.2 of PyTorch: missed by 25%'
    row = {'model': 'cnn', 'train_ratio': {training.EAGER: {'median': 6}, training.COMPILED: {'median': 2}}}
    assert training_tables.verdict(row, 'cpu') == '1 of PyTorch: met'
    assert training_tables.verdict(row, 'gpu') == '5 of PyTorch: met; 2 of torch.compile: met'


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'expected something to measure: --config FILE or --data'),
        (['--config', 'configs/nothing.py'], '--config: there is no file configs/nothing.py'),
        (['--wrong'], "command line: '--wrong' is not expected"),
        (['--data', '--rounds', '0'], '--rounds: expected at least 1, got 0'),
        (['--data', '--name', 'cifar10', '--data_dir', '/nowhere/at/all'], 'cifar10 was not found in'),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    assert cli.guarded(benchmark.main, ['benchmark', *argv]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert message in error
