"""A file that is not what it should be: one line with its name and the remedy, and nothing left behind."""

import gzip
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import tiny_sets
from tiny_sets import CIFAR10, Call, config

from flaxnets.errors import UserError
from train import data


def refused(match, tmp_path, **chosen):
    """Loading raises one line that matches, runs nothing and leaves no entry in the cache."""
    with pytest.raises(UserError, match=match) as error:
        data.load(config(**chosen), 'train')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'ran').exists()
    cache = tmp_path / 'cache'
    assert not cache.exists() or [p for p in cache.iterdir() if p.is_dir()] == []


HOSTILE = {
    'system': lambda path: Call(__import__('os').system, f'touch {path}'),
    'eval': lambda path: Call(eval, f'open({str(path)!r}, "w")'),
    'path': lambda path: Call(pathlib.PurePosixPath, '/'),
    'numpy.save': lambda path: Call(np.save, str(path), 1),
    'getattr': lambda path: Call(getattr, 'text', 'upper'),
    'other codec': lambda path: Call(__import__('codecs').encode, 'x', 'rot13'),
}


@pytest.mark.parametrize('attack', HOSTILE)
@pytest.mark.parametrize('file', ['data_batch_2', 'batches.meta'])
def test_a_pickle_that_wants_to_run_code(attack, file, cifar, tmp_path):
    folder = tiny_sets.write_cifar10(cifar, tmp_path)
    hostile = HOSTILE[attack](tmp_path / 'ran')
    for protocol in (0, 2, 4):
        (folder / file).write_bytes(
            pickle.dumps({b'data': hostile, b'labels': [], b'label_names': []}, protocol)
        )
        refused(rf'{file}: truncated or not a pickle of arrays', tmp_path, name='cifar10', data_dir=tmp_path)


def test_stack_global_cannot_reach_attributes(cifar, tmp_path):
    folder = tiny_sets.write_cifar10(cifar, tmp_path)
    dotted = b'\x80\x04\x8c\x05numpy\x8c\x12ndarray.__class__\x93.'
    (folder / 'data_batch_1').write_bytes(dotted)
    refused('data_batch_1: truncated or not', tmp_path, name='cifar10', data_dir=tmp_path)


def batch(**changed):
    rows = np.zeros((4, 3072), np.uint8)
    return tiny_sets.python2_pickle(
        {b'data': rows, b'labels': [0, 1, 2, 3]} | {k.encode(): v for k, v in changed.items()}
    )


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (batch()[:9000], 'data_batch_3: truncated'),
        (b'', 'data_batch_3: truncated'),
        (b'not a pickle', 'data_batch_3: truncated or not a pickle'),
        (pickle.dumps([1, 2]), 'data_batch_3: expected a dictionary with data, labels'),
        (batch(labels='abcd'), 'data_batch_3: expected a dictionary'),
        (batch(labels=[0, 1, 2, 10]), r'data_batch_3: label 10 of image 3 is not in 0\.\.9'),
        (batch(labels=[0, -1, 2, 3]), 'data_batch_3: label -1'),
        (batch(labels=[0, 1, 2]), 'data_batch_3: expected 3 rows of 3072'),
        (batch(labels=[0, 1, 2, None]), 'data_batch_3: expected 4 rows'),
        (batch(data=np.zeros((4, 3000), np.uint8)), r'got \(4, 3000\) uint8'),
        (batch(data=np.zeros((4, 3072))), 'got .* float64'),
        (None, 'data_batch_3 is missing'),
    ],
)
def test_cifar_batches(content, message, cifar, tmp_path):
    folder = tiny_sets.write_cifar10(cifar, tmp_path)
    if content is None:
        (folder / 'data_batch_3').unlink()
    else:
        (folder / 'data_batch_3').write_bytes(content)
    refused(message, tmp_path, name='cifar10', data_dir=tmp_path)


IMAGES, LABELS = 'train-images-idx3-ubyte', 'train-labels-idx1-ubyte'


@pytest.mark.parametrize(
    ('file', 'damage', 'message'),
    [
        (IMAGES, lambda b: b[:-1], 'expected 31360 bytes after its header, got 31359'),
        (IMAGES, lambda b: b + b'x', 'expected 31360 bytes after its header, got more'),
        (IMAGES, lambda b: b[:7], 'truncated or damaged'),
        (IMAGES, lambda b: b'\0\0\x08\x01' + b[4:], 'expected the magic number 0x0803, got 0x0801'),
        (LABELS, lambda b: b'<html>' + b, 'expected the magic number 0x0801, got 0x3c68746d'),
        (LABELS, lambda b: b[:-1] + b'\x0a', r'label 10 of image 39 is not in 0\.\.9'),
        (LABELS, lambda b: tiny_sets.idx(np.zeros(39)), 'expected 40 labels'),
    ],
)
def test_idx_files(file, damage, message, mnist, tmp_path):
    folder = tiny_sets.write_idx(mnist, tmp_path / 'MNIST' / 'raw')
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    refused(f'{file}: {message}', tmp_path, name='mnist', data_dir=tmp_path)


@pytest.mark.parametrize(
    'damage', [lambda b: b[:-20], lambda b: b'plain', lambda b: b[:30] + b'\xff' * 9 + b[39:]]
)
def test_gzipped_idx_files(damage, mnist, tmp_path):
    folder = tiny_sets.write_idx(mnist, tmp_path / 'MNIST' / 'raw', gzipped=True)
    file = folder / f'{IMAGES}.gz'
    file.write_bytes(damage(file.read_bytes()))
    refused(rf'{IMAGES}\.gz: (truncated or damaged|expected)', tmp_path, name='mnist', data_dir=tmp_path)


def test_an_idx_file_that_is_not_there(mnist, tmp_path):
    folder = tiny_sets.write_idx(mnist, tmp_path / 'MNIST' / 'raw')
    (folder / LABELS).unlink()
    refused(f'{LABELS} is missing, gzipped or not', tmp_path, name='mnist', data_dir=tmp_path)


@pytest.fixture
def tfds_copy(cifar_places, tmp_path):
    def copy(source):
        shutil.copytree(cifar_places[source], tmp_path / 'root')
        return next((tmp_path / 'root' / 'cifar10').iterdir())

    return copy


@pytest.mark.parametrize('source', ['tfds', 'tfrecord'])
@pytest.mark.parametrize('damage', ['truncated', 'missing', 'garbage'])
def test_record_files(source, damage, tfds_copy, tmp_path):
    folder = tfds_copy(source)
    file = next(folder.glob('cifar10-train*'))
    content = file.read_bytes()
    if damage == 'missing':
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == 'truncated' else b'\0' * len(content))
    refused(f'{folder}.*(prepare|fetch)', tmp_path, name='cifar10', data_dir=tmp_path / 'root')


@pytest.mark.parametrize('file', ['dataset_info.json', 'features.json'])
def test_tfds_metadata(file, tfds_copy, tmp_path):
    folder = tfds_copy('tfds')
    (folder / file).write_text('{')
    refused(f'{folder}.*prepare', tmp_path, name='cifar10', data_dir=tmp_path / 'root')


def test_images_of_unequal_size(cifar, tmp_path):
    root = tiny_sets.write_folder(cifar, tmp_path / 'images', CIFAR10)
    odd = root / 'train' / 'cat' / '9999.png'
    odd.write_bytes(tiny_sets.png(np.zeros((32, 31, 3), np.uint8)).getvalue())
    refused(
        r'images/train: image \d+ is 32x31x3, the ones before it 32x32x3; .*image_size=32',
        tmp_path, name='mine', source='folder', data_dir=root,
    )  # fmt: skip
    assert len(data.load(config(name='mine', source='folder', data_dir=root, image_size=8), 'train')) == 41
    odd.write_bytes(tiny_sets.png(np.zeros((32, 32), np.uint8)).getvalue())
    refused(
        'data.channels=3',
        tmp_path / 'x',
        name='mine',
        source='folder',
        data_dir=root,
        cache_dir=tmp_path / 'x',
    )


@pytest.mark.parametrize('content', [b'', b'text', tiny_sets.png(np.zeros((9, 9), np.uint16)).getvalue()])
def test_a_file_that_is_no_8_bit_image(content, cifar, tmp_path):
    root = tiny_sets.write_folder(cifar, tmp_path / 'images', CIFAR10)
    (root / 'train' / 'cat' / 'bad.png').write_bytes(content)
    refused(r'cat/bad\.png: ', tmp_path, name='mine', source='folder', data_dir=root)


def test_a_truncated_image(cifar, tmp_path):
    root = tiny_sets.write_folder(cifar, tmp_path / 'images', CIFAR10)
    file = next((root / 'train' / 'cat').iterdir())
    file.write_bytes(file.read_bytes()[:-200])
    refused(f'{file.name}: not a readable image', tmp_path, name='mine', source='folder', data_dir=root)


def test_class_folders(cifar, tmp_path):
    root = tiny_sets.write_folder(cifar, tmp_path / 'images', CIFAR10)
    (root / 'train' / 'empty').mkdir()
    refused(r'train/empty: no .*\.png', tmp_path, name='mine', source='folder', data_dir=root)
    (root / 'train' / 'empty').rmdir()
    (root / 'test' / 'cat').rename(root / 'test' / 'lynx')
    with pytest.raises(UserError, match='test/lynx: no class of the training images'):
        data.load(config(name='mine', source='folder', data_dir=root), 'test')


def test_gzip_is_real(mnist, tmp_path):
    """The damage above is what breaks these files, not their making."""
    folder = tiny_sets.write_idx(mnist, tmp_path / 'MNIST' / 'raw', gzipped=True)
    assert gzip.decompress((folder / f'{IMAGES}.gz').read_bytes())[:4] == b'\0\0\x08\x03'
    assert len(data.load(config(name='mnist', data_dir=tmp_path), 'train')) == 40
