"""An image set is an array and indices: parts of it read, hash and pickle no more than they must."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import tiny_sets
from tiny_sets import config

from flaxnets.errors import UserError
from train import data
from train.checkpointing import resume
from train.checkpointing.meta import Meta
from train.data import imageset
from train.data.imageset import ImageSet


@pytest.fixture
def part():
    """Two classes of the digits, without the validation images."""
    return data.load(config(classes=(5, 3), validation=0.2), 'train')


def in_memory(images):
    return ImageSet.of(images.images, images.labels, images.class_names, name=images.name, split=images.split)


def test_a_part_is_the_rows_of_the_map(part):
    whole = data.load(config(), 'train')
    assert isinstance(whole.images, np.memmap)
    assert whole.indices is None
    assert isinstance(part.pixels, np.memmap)
    pixels = part.images
    np.testing.assert_array_equal(pixels, whole.images[part.indices])
    np.testing.assert_array_equal(np.array([5, 3])[part.labels], whole.labels[part.indices])
    assert part.image_shape == pixels.shape[1:]
    assert part.nbytes == pixels.nbytes + part.labels.nbytes
    fewer = part.take(np.arange(7)[::-1])
    assert fewer.pixels is part.pixels
    np.testing.assert_array_equal(fewer.images, pixels[6::-1])
    np.testing.assert_array_equal(fewer.gather(np.array([2, 0])), pixels[[4, 6]])
    np.testing.assert_array_equal(fewer[2]['image'], pixels[4])
    np.testing.assert_array_equal(fewer[-1]['image'], pixels[0])
    assert [item['label'] for item in fewer] == part.labels[6::-1].tolist()
    with pytest.raises(IndexError):
        fewer[7]


def test_all_images_in_their_order_are_the_map_itself(part):
    whole = data.load(config(), 'train')
    assert whole.take(np.arange(len(whole))).indices is None
    assert whole.take(np.arange(len(whole))[::-1]).indices is not None


def test_a_part_is_not_hashed_again(monkeypatch):
    hashed = []
    monkeypatch.setattr(imageset, 'checksum', lambda *_: hashed.append(1) or '0' * 64)
    images = ImageSet.of(*tiny_sets.arrays()['train'], range(10), name='a', split='train')
    parts = [images.take(np.arange(n)) for n in (3, 4, 4)]
    assert len({part.fingerprint for part in parts}) == 2
    assert len(hashed) == 1


def test_fingerprints_tell_sets_apart(part):
    whole = data.load(config(), 'train')
    others = [
        whole,
        whole.take(np.arange(9)),
        whole.take(np.arange(9)[::-1]),
        part,
        data.load(config(classes=(3, 5), validation=0.2), 'train'),
        data.load(config(classes=(5, 3)), 'train'),
        data.load(config(image_size=9), 'train'),
    ]
    assert len({images.fingerprint for images in others}) == len(others)
    assert all(images.matches(images.fingerprint) for images in others)
    assert not whole.matches(part.fingerprint)


def test_the_fingerprints_of_older_checkpoints_still_match(part):
    """They were a SHA-256 of the chosen pixels, written here once more by hand."""
    for images in (part, data.load(config(), 'test')):
        digest = hashlib.sha256(images.images.tobytes() + images.labels.astype('<i4').tobytes())
        digest.update(json.dumps([list(images.images.shape), list(images.class_names)]).encode())
        old = digest.hexdigest()[:16]
        assert images.matches(old)
        assert in_memory(images).matches(old)
        assert not images.take(np.arange(5)).matches(old)
        assert not images.matches(old[::-1])


def test_a_checkpoint_of_another_limit_is_refused_and_says_why():
    """Before fingerprints had a format, data.limit took the first images."""
    whole = data.load(config(), 'train')
    first = in_memory(whole.take(np.arange(20)))
    meta = Meta({'data': {'limit': 20}}, None, data={'train': first.sha256[:16]})
    assert resume.match_data(meta, {'train': first}, 3) == []
    now = {'train': data.load(config(limit=20), 'train')}
    with pytest.raises(
        UserError, match=r'since checkpoint 3: train \(\w+ there, 2:\w+ now\); data.limit took'
    ):
        resume.match_data(meta, now, 3)
    meta.config['data']['limit'] = 0
    with pytest.raises(UserError, match=r'now\); restore the old images'):
        resume.match_data(meta, now, 3)


def test_a_pickled_set_names_its_file(part):
    assert len(pickle.dumps(part)) < part.nbytes / 2
    again = pickle.loads(pickle.dumps(part))
    assert isinstance(again.pixels, np.memmap)
    assert again.fingerprint == part.fingerprint
    np.testing.assert_array_equal(again.images, part.images)
    alone = pickle.loads(pickle.dumps(in_memory(part)))
    np.testing.assert_array_equal(alone.images, part.images)
