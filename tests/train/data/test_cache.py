"""Decoding happens once, whoever asks and whatever happens meanwhile."""

import pathlib
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import tiny_sets
from tiny_sets import config

from flaxnets.errors import UserError
from train import data, memory
from train.data.cache import decoded_once
from train.data.sources.records import Records

SHAPE = (50, 6, 5, 3)


class Decoder:
    """Counts how often it is asked for its records."""

    def __init__(self, shape=SHAPE, pause=0.0):
        self.images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self.calls = 0
        self.pause = pause

    def __call__(self):
        self.calls += 1
        time.sleep(self.pause)
        labels = (i % 3 for i in range(len(self.images)))
        return Records(len(self.images), zip(self.images, labels, strict=False), ('a', 'b', 'c'), 'somewhere')


def load(decoder, folder, **key):
    defaults = {'name': 'some/set', 'split': 'train', 'version': '1', 'size': None, 'channels': 0}
    return decoded_once(decoder, folder=folder, **defaults | key)


def entries(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir())


def test_the_second_time_is_read_from_disk(tmp_path):
    decoder = Decoder()
    first, second = load(decoder, tmp_path), load(decoder, tmp_path)
    assert decoder.calls == 1
    assert isinstance(second.images, np.memmap)
    np.testing.assert_array_equal(second.images, decoder.images)
    np.testing.assert_array_equal(second.labels, np.arange(50) % 3)
    assert first.fingerprint == second.fingerprint
    same = data.ImageSet.of(decoder.images, second.labels, second.class_names, name='other', split='test')
    assert same.fingerprint == first.fingerprint


def test_every_part_of_the_key_counts(tmp_path):
    decoder = Decoder()
    for key in (
        {},
        {'split': 'test'},
        {'version': '2'},
        {'size': (4, 4)},
        {'channels': 1},
        {'name': 'other'},
    ):
        load(decoder, tmp_path, **key)
    assert decoder.calls == 6


def test_changed_files_are_decoded_again(cifar, tmp_path):
    folder = tiny_sets.write_cifar10(cifar, tmp_path)
    chosen = config(name='cifar10', data_dir=tmp_path)
    before = data.load(chosen, 'test')
    images, labels = cifar['test']
    (tmp_path / 'other').mkdir()
    other = tiny_sets.write_cifar10(cifar | {'test': (255 - images, labels)}, tmp_path / 'other')
    (other / 'test_batch').replace(folder / 'test_batch')
    np.testing.assert_array_equal(data.load(chosen, 'test').images, 255 - before.images)


@pytest.mark.parametrize('file', ['images.npy', 'labels.npy', 'meta.json'])
@pytest.mark.parametrize('damage', ['flipped bit', 'truncated', 'missing'])
def test_a_corrupt_entry_is_said_and_decoded_again(file, damage, tmp_path):
    decoder = Decoder()
    good = load(decoder, tmp_path).fingerprint
    (entry,) = entries(tmp_path)
    content = bytearray((entry / file).read_bytes())
    if damage == 'flipped bit':
        content[-7] ^= 4
        (entry / file).write_bytes(content)
    elif damage == 'truncated':
        (entry / file).write_bytes(content[:-9])
    else:
        (entry / file).unlink()
    with pytest.warns(RuntimeWarning, match='corrupt: decoding some/set train again'):
        again = load(decoder, tmp_path)
    assert decoder.calls == 2
    assert again.fingerprint == good
    assert load(decoder, tmp_path).fingerprint == good
    assert decoder.calls == 2


def test_what_a_killed_process_left_is_replaced(tmp_path):
    decoder = Decoder()
    load(decoder, tmp_path)
    (entry,) = entries(tmp_path)
    entry.rename(entry.with_name(entry.name + '.partial'))
    (entry.with_name(entry.name + '.partial') / 'meta.json').unlink()
    load(decoder, tmp_path)
    assert decoder.calls == 2
    assert entries(tmp_path) == [entry]


def test_an_error_while_decoding_leaves_nothing(tmp_path):
    def broken():
        items = iter([(np.zeros((2, 2, 3), np.uint8), 0), (np.zeros((2, 3, 3), np.uint8), 0)])
        return Records(2, items, ('a',), 'somewhere')

    with pytest.raises(UserError, match=r'image 1 is 2x3x3, the ones before it 2x2x3;.*image_size=2'):
        load(broken, tmp_path)
    assert entries(tmp_path) == []


def test_several_at_once_decode_once(tmp_path):
    decoder, found = Decoder(pause=0.2), []
    threads = [threading.Thread(target=lambda: found.append(load(decoder, tmp_path))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoder.calls == 1
    assert len({images.fingerprint for images in found}) == 1


def test_processes_wait_for_each_other(tmp_path):
    program = """
import pathlib, sys, time
sys.path[:0] = sys.argv[2:]
from test_cache import Decoder, load
folder = pathlib.Path(sys.argv[1])
while not (folder / 'go').exists():
    time.sleep(0.01)
decoder = Decoder(pause=0.3)
load(decoder, folder / 'cache')
print(decoder.calls)
"""
    paths = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[3])]
    command = [sys.executable, '-c', program, str(tmp_path), *paths]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    (tmp_path / 'go').touch()
    assert sorted(process.communicate()[0].strip() for process in processes) == ['0', '1']


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / 'file').touch()
    decoder = Decoder()
    with pytest.warns(RuntimeWarning, match='--config.data.cache_dir=DIR'):
        images = load(decoder, tmp_path / 'file' / 'cache')
    np.testing.assert_array_equal(images.images, decoder.images)
    assert images.fingerprint == load(decoder, tmp_path / 'other').fingerprint


def test_a_full_disk_costs_a_warning(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=4_000))
    decoder = Decoder()
    with pytest.warns(RuntimeWarning, match=r'0\.0045 MB needed, 0\.004 MB free.*.* with enough space'):
        images = load(decoder, tmp_path)
    np.testing.assert_array_equal(images.images, decoder.images)
    assert entries(tmp_path) == []


def test_no_room_on_disk_and_in_memory(tmp_path, monkeypatch):
    """One line says what does not fit where, before the images are decoded."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=10**9))
    monkeypatch.setattr(memory, 'available', lambda: 2 * 10**9)
    decoded = []

    def records():
        images = (decoded.append(i) or (np.zeros((8, 8, 3), np.uint8), i % 2) for i in range(3000))
        return Records(3000, images, ('a', 'b'), 'somewhere')

    with (
        pytest.warns(RuntimeWarning, match=r'9\.0 GB needed, 1\.0 GB free'),
        pytest.raises(UserError, match=r'1000x1000x3 take 9\.0 GB, and 2\.0 GB of memory.*image_size'),
    ):
        load(records, tmp_path, size=(1000, 1000))
    assert len(decoded) == 2  # the first one, twice


def test_a_large_set_is_never_whole_in_memory(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    count = 4000  # 49 MB

    def decoder():
        return Records(count, ((image, 0) for _ in range(count)), ('a',), 'somewhere')

    tracemalloc.start()
    try:
        load(decoder, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.8 * count * image.size


def test_the_folder_is_configured(tmp_path, monkeypatch):
    monkeypatch.delenv('FLAXNETS_CACHE')
    with warnings.catch_warnings():
        data.load(config(), 'test')
        assert entries(tmp_path / 'home' / '.cache' / 'flaxnets')
        data.load(config(cache_dir=tmp_path / 'elsewhere'), 'test')
        assert entries(tmp_path / 'elsewhere')
