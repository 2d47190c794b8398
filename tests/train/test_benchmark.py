"""`python -m train.benchmark`: every number is there, from a small set; the picture shows what it says."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from train import benchmark, cli
from train import config as options
from train.benchmarks import data as benchmark_data
from train.benchmarks import memory as benchmark_memory
from train.benchmarks import sample, timing
from train.benchmarks import tables as benchmark_tables
from train.data.imageset import ImageSet
from train.data.sources.names import CIFAR10
from train.torch_reference import loader

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
    benchmark_tables.Console().print(benchmark_tables.sources(rates, 'title', 2))
    benchmark_tables.Console().print(benchmark_tables.placements({'device': 12345.0}, 'title'))
    assert capsys.readouterr().out.count('torch is not installed') == 2


def test_every_format_holds_the_same_images(images, tmp_path):
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


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'expected something to measure: --data'),
        (['--data', '--rounds', '0'], '--rounds: expected at least 1, got 0'),
        (['--data', '--name', 'cifar10', '--data_dir', '/nowhere/at/all'], 'cifar10 was not found in'),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    assert cli.guarded(benchmark.main, ['benchmark', *argv]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert message in error
