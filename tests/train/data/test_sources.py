"""Every place gives the same images; splits, classes, sizes and channels are as configured."""

import itertools
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_sets
from PIL import Image
from tiny_sets import CIFAR10, as_set, config

from flaxnets.errors import UserError
from train import data
from train.data.download import fetch
from train.data.sources import digits

PLACES = ('tfds', 'tfrecord', 'torch', 'folder')


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('place', PLACES)
def test_every_place_has_the_same_images(place, split, cifar, cifar_places):
    images = data.load(config(name='cifar10', data_dir=cifar_places[place]), split)
    assert (images.name, images.split, images.class_names) == ('cifar10', split, CIFAR10)
    assert images.images.dtype == np.uint8
    assert images.labels.dtype == np.int32
    assert as_set(images.images, images.labels) == as_set(*cifar[split])


def test_a_split_is_a_sequence_of_examples(cifar_places):
    images = data.load(config(name='cifar10', data_dir=cifar_places['torch']), 'test')
    assert len(images) == 20
    first = images[0]
    assert (first['image'].shape, first['image'].dtype) == ((32, 32, 3), np.uint8)
    assert type(first['label']) is int
    assert [e['label'] for e in images] == images.labels.tolist()


@pytest.mark.parametrize('gzipped', [False, True])
@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_idx_files(name, gzipped, mnist, tmp_path):
    folder = {'mnist': 'MNIST', 'fashion_mnist': 'FashionMNIST'}[name]
    tiny_sets.write_idx(mnist, tmp_path / folder / 'raw', gzipped)
    for root in (tmp_path, tmp_path / folder, tmp_path / folder / 'raw'):
        images = data.load(config(name=name, source='torch', data_dir=root), 'test')
        np.testing.assert_array_equal(images.images, mnist['test'][0])
        np.testing.assert_array_equal(images.labels, mnist['test'][1])
    assert images.class_names[3] == {'mnist': '3', 'fashion_mnist': 'Dress'}[name]


def test_mnist_from_tfds_is_grey(mnist, tmp_path):
    tiny_sets.write_tfds(mnist, 'mnist', tmp_path)
    images = data.load(config(name='mnist', data_dir=tmp_path), 'train')
    assert as_set(images.images, images.labels) == as_set(*mnist['train'])


def test_cifar100_pickles(tmp_path):
    given = tiny_sets.arrays(classes=20)
    names = tuple(f'class_{i}' for i in range(20))
    tiny_sets.write_cifar100(given, tmp_path, names)
    images = data.load(config(name='cifar100', data_dir=tmp_path), 'train')
    assert images.class_names == names
    assert as_set(images.images, images.labels) == as_set(*given['train'])


def test_pickles_written_by_python_3(cifar, tmp_path):
    import pickle

    for protocol in (2, 4):
        root = tmp_path / str(protocol)
        tiny_sets.write_cifar10(cifar, root, lambda value, p=protocol: pickle.dumps(value, p))
        images = data.load(config(name='cifar10', data_dir=root), 'test')
        np.testing.assert_array_equal(images.images, cifar['test'][0])


def test_the_newest_version_is_read(cifar, cifar_places, tmp_path):
    for version, source in (('2.9.0', 'tfrecord'), ('3.0.10', 'tfds'), ('3.0.9', 'tfrecord')):
        folder = tmp_path / 'cifar10' / version
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(next((cifar_places[source] / 'cifar10').iterdir()))
    from train.data.sources.tfds import find_directory

    assert find_directory(tmp_path, 'cifar10').name == '3.0.10'
    assert find_directory(tmp_path, 'cifar10:2.9.0').name == '2.9.0'
    assert find_directory(tmp_path / 'cifar10' / '2.9.0', 'cifar10').name == '2.9.0'
    assert find_directory(tmp_path, 'cifar100') is None


def test_configs_of_a_tfds_set(cifar_places, tmp_path):
    from train.data.sources.tfds import find_directory

    version = next((cifar_places['tfds'] / 'cifar10').iterdir())
    for name in ('one', 'two'):
        folder = tmp_path / 'cifar10' / name / '1.0.0'
        folder.parent.mkdir(parents=True)
        folder.symlink_to(version)
        assert find_directory(tmp_path, f'cifar10/{name}') == folder
        if name == 'one':
            assert find_directory(tmp_path, 'cifar10') == folder
    with pytest.raises(UserError, match='contains the configs one, two; choose one with'):
        find_directory(tmp_path, 'cifar10')


def test_a_known_set_is_not_taken_from_just_any_folder(cifar, tmp_path):
    root = tiny_sets.write_folder(cifar, tmp_path / 'images', CIFAR10)
    with pytest.raises(UserError, match='cifar10 was not found'):
        data.load(config(name='cifar10', data_dir=root), 'test')
    assert len(data.load(config(name='cifar10', source='folder', data_dir=root), 'test')) == 20
    assert len(data.load(config(name='mine', data_dir=root), 'test')) == 20


def test_usual_places_are_searched(cifar_places, monkeypatch, tmp_path):
    monkeypatch.setenv('TFDS_DATA_DIR', str(cifar_places['tfds']))
    assert len(data.load(config(name='cifar10'), 'test')) == 20
    monkeypatch.delenv('TFDS_DATA_DIR')
    (tmp_path / 'data').symlink_to(cifar_places['torch'])
    assert len(data.load(config(name='cifar10'), 'test')) == 20


def test_the_embedded_digits():
    train, test = (data.load(config(image_size=(16, 16), channels=3), split) for split in ('train', 'test'))
    assert train.images.shape == (1438, 16, 16, 3)
    assert len(test) == 359
    assert train.images.max() == 255
    shares = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    np.testing.assert_allclose(shares, 0.2, atol=0.005)
    np.testing.assert_array_equal(train.images[..., 0], train.images[..., 2])
    assert train.fingerprint != test.fingerprint
    # the same images on every machine, and the same as before fingerprints had a format
    small = data.load(config(), 'test')
    assert small.fingerprint == '2:37c43a60c1ec0409'
    assert small.matches('c85bc07082e31d4f')


def test_the_embedded_digits_where_scikit_learn_keeps_its_file_elsewhere(monkeypatch):
    expected = digits.table()
    monkeypatch.setattr(digits.pathlib.Path, 'exists', lambda path: False)
    np.testing.assert_array_equal(digits.table(), expected)


def test_sizes_and_channels(cifar, cifar_places):
    def load(**chosen):
        return data.load(config(name='cifar10', data_dir=cifar_places['torch'], **chosen), 'test').images

    for size, shape in ((16, (16, 16)), ((16,), (16, 16)), ((8, 24), (8, 24))):
        expected = Image.fromarray(cifar['test'][0][0]).resize(shape[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(load(image_size=size)[0], np.asarray(expected))
    grey = load(channels=1)
    luminance = cifar['test'][0] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey[..., 0], luminance, atol=0.6)


@pytest.mark.parametrize('size', [-1, (0, 4), (1, 2, 3), (4.0, 4), 100000, (8, 100000)])
def test_a_wrong_size(size):
    with pytest.raises(UserError, match=r'data.image_size: expected'):
        data.load(config(image_size=size), 'test')


def test_class_subsets_renumber_in_the_given_order(cifar, cifar_places):
    def load(classes, split='train'):
        return data.load(config(name='cifar10', data_dir=cifar_places['torch'], classes=classes), split)

    whole, some = load(()), load(('dog', 0))
    assert some.class_names == ('dog', 'airplane')
    for new, old in enumerate((5, 0)):
        expected = whole.images[whole.labels == old]
        np.testing.assert_array_equal(some.images[some.labels == new], expected)
    assert len(some) == 8
    assert some.fingerprint != load((0, 'dog')).fingerprint
    for classes in (('dgo',), (10,), (-1,), ('dog', 5), (True, 1)):
        with pytest.raises(UserError, match=r'^data.classes: '):
            load(classes)


def test_a_subset_without_images(cifar_places, tmp_path):
    tiny_sets.write_folder(
        {'train': tiny_sets.arrays()['train'], 'test': tiny_sets.arrays(classes=9)['test']}, tmp_path, CIFAR10
    )
    chosen = config(name='mine', source='folder', data_dir=tmp_path, classes=('truck',))
    with pytest.raises(UserError, match='no image is left'):
        data.load(chosen, 'test')


def test_validation_is_a_stratified_part_of_the_training_images(cifar, cifar_places):
    def load(split, seed=0, **chosen):
        chosen = config(name='cifar10', data_dir=cifar_places['torch'], **{'validation': 0.25} | chosen)
        return data.load(chosen, split, seed=seed)

    train, validation, test = (load(split) for split in ('train', 'validation', 'test'))
    assert np.bincount(validation.labels).tolist() == [1] * 10
    together = as_set(train.images, train.labels) + as_set(validation.images, validation.labels)
    assert sorted(together) == as_set(*cifar['train'])
    assert as_set(test.images, test.labels) == as_set(*cifar['test'])
    assert load('validation').fingerprint == validation.fingerprint
    assert load('validation', seed=1).fingerprint != validation.fingerprint
    # the validation images of a class subset are among these
    subset = load('validation', classes=('dog',))
    assert as_set(subset.images, subset.labels + 5) == [
        x for x in as_set(*validation_of(validation)) if x[1] == 5
    ]
    with pytest.raises(UserError, match=r'config\.data\.validation=0\.1'):
        load('validation', validation=0.0)


def validation_of(images):
    return images.images, images.labels


def test_a_folder_of_one_split_is_tested_on_a_fifth_of_it(cifar, tmp_path):
    root = tiny_sets.write_folder(cifar, tmp_path / 'images', CIFAR10, splits=False)
    parts = {
        split: data.load(config(name='mine', source='folder', data_dir=root, validation=0.25), split)
        for split in ('train', 'validation', 'test')
    }
    assert {split: len(part) for split, part in parts.items()} == {'train': 20, 'validation': 10, 'test': 10}
    together = itertools.chain(*(as_set(p.images, p.labels) for p in parts.values()))
    assert sorted(together) == as_set(*cifar['train'])
    assert parts['test'].class_names == tuple(sorted(CIFAR10))


def test_own_validation_split(cifar, tmp_path):
    splits = {'train': cifar['train'], 'val': cifar['test']}
    tiny_sets.write_folder(splits, tmp_path / 'without', CIFAR10)
    without = config(name='without', data_dir=tmp_path)
    assert len(data.load(without, 'test')) == 20  # no test split: tested on the validation split
    with pytest.raises(UserError, match='make one with'):
        data.load(without, 'validation')
    tiny_sets.write_folder(splits | {'test': cifar['train']}, tmp_path / 'with', CIFAR10)
    assert len(data.load(config(name='with', data_dir=tmp_path), 'validation')) == 20


def test_missing_data_say_where_they_were_looked_for(cifar_places, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, 'argv', ['train', '--config', 'configs/branching_attn.py:layers=4', '--workdir=x y']
    )
    with pytest.raises(UserError) as error:
        data.load(config(name='cifar100', data_dir=cifar_places['torch']), 'train')
    line = str(error.value)
    assert '\n' not in line
    assert f'cifar100 was not found in {cifar_places["torch"]} (contains cifar10)' in line
    assert '--config.data.data_dir=DIR' in line
    assert "python -m train --config configs/branching_attn.py:layers=4,digits '--workdir=x y'" in line
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', SimpleNamespace(name='train.benchmark'))
    with pytest.raises(UserError, match=r'python -m train\.benchmark --config'):
        data.load(config(name='cifar100', data_dir=cifar_places['torch']), 'train')
    monkeypatch.setattr(sys, 'argv', ['notebook'])
    with pytest.raises(UserError, match=rf"{tmp_path}/data \(no such folder\).*data\.name='digits'"):
        data.load(config(name='cifar10'), 'train')


def test_without_network_the_message_comes_within_seconds(monkeypatch, tmp_path):
    monkeypatch.setattr(fetch, 'REACH', 1.0)
    monkeypatch.setattr('urllib.request.urlopen', lambda *_, **__: time.sleep(20))
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r'cifar-10-binary\.tar\.gz cannot be reached .no answer in 1 s.*data_dir=DIR'
    ):
        data.load(config(name='cifar10', data_dir=tmp_path / 'new', download=True), 'train')
    assert time.monotonic() - start < 10
    assert not (tmp_path / 'new').exists()


def test_another_set_than_the_one_named(cifar_places, mnist, tmp_path):
    version = next((cifar_places['tfds'] / 'cifar10').iterdir())
    with pytest.raises(
        UserError, match=r"contains the TFDS set 'cifar10', not 'mnist'; set --config.data.name=cifar10"
    ):
        data.load(config(name='mnist', data_dir=version), 'train')
    with pytest.raises(UserError, match='contains cifar10, not cifar100'):
        data.load(config(name='cifar100', data_dir=cifar_places['torch'] / 'cifar-10-batches-py'), 'train')
    folder = tiny_sets.write_idx(mnist, tmp_path / 'FashionMNIST' / 'raw')
    with pytest.raises(UserError, match='contains fashion_mnist, not mnist'):
        data.load(config(name='mnist', data_dir=folder), 'train')


@pytest.mark.parametrize(
    ('chosen', 'message'),
    [
        ({'source': 'tensorflow'}, 'data.source: expected one of auto'),
        ({'source': 'embedded', 'name': 'mnist'}, 'has only digits'),
        ({'source': 'folder', 'name': 'mine'}, r'contains CLASS/\*\.png'),
    ],
)
def test_wrong_sources(chosen, message):
    with pytest.raises(UserError, match=message):
        data.load(config(**chosen), 'train')


def test_wrong_split():
    with pytest.raises(UserError, match='split: expected one of train, validation, test'):
        data.load(config(), 'val')
