"""Each augmentation against what numpy says it is; draws depend on the position in the batch alone."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data import augment

SIZE, CLASSES = 24, 5
OFF = {
    'crop': 0, 'crop_fill': 'zero', 'flip': False, 'brightness': 0.0, 'contrast': 0.0,
    'cutout': 0, 'mixup': 0.0, 'cutmix': 0.0,
}  # fmt: skip
ALL = {'crop': 2, 'flip': True, 'brightness': 0.2, 'contrast': 0.2, 'cutout': 3, 'mixup': 0.3, 'cutmix': 1.0}


def options(**chosen):
    return types.SimpleNamespace(**OFF | chosen)


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SIZE, 9, 8, 3), dtype=np.uint8)
    targets = np.eye(CLASSES, dtype=np.float32)[random.integers(0, CLASSES, SIZE)]
    return images, targets, np.ones(SIZE, np.float32)


@pytest.fixture(autouse=True)
def quick_compilation():
    """Half the compilation time, most of which is jax.random.beta's; what is computed stays the same."""
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


@functools.cache
def compiled(mean, chosen):
    return jax.jit(lambda *arrays: augment.augment(*arrays, options(**dict(chosen)), mean=mean))


def run(batch, key=0, mean=0.0, **chosen):
    apply = compiled(mean, tuple(chosen.items()))
    return tuple(map(np.asarray, apply(*batch, jax.random.key(key))))


def differs(a, b):
    return abs(a - b) > 1e-4  # a compiled division by 255 may round otherwise


def test_everything_off_changes_nothing(batch):
    images, targets = run(batch)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, batch[0])
    np.testing.assert_array_equal(targets, batch[1])


@pytest.mark.parametrize(('fill', 'mode'), [('zero', 'constant'), ('reflect', 'reflect')])
def test_a_crop_is_some_window_of_the_padded_image_and_all_windows_come(batch, fill, mode):
    padding, seen = 2, set()
    windows = [
        {
            padded[y : y + 9, x : x + 8].tobytes(): (y, x)
            for y in range(2 * padding + 1)
            for x in range(2 * padding + 1)
        }
        for padded in (
            np.pad(i, ((padding, padding), (padding, padding), (0, 0)), mode=mode) for i in batch[0]
        )
    ]
    for key in range(20):
        cropped, _ = run(batch, key, crop=padding, crop_fill=fill)
        assert cropped.dtype == np.uint8
        seen |= {windows[i][image.tobytes()] for i, image in enumerate(cropped)}
    assert len(seen) == 25


def test_about_half_are_flipped(batch):
    flips = []
    for key in range(10):
        images, _ = run(batch, key, flip=True)
        flipped = (images == batch[0][:, :, ::-1]).all((1, 2, 3))
        assert (flipped | (images == batch[0]).all((1, 2, 3))).all()
        flips.append(flipped.mean())
    assert 0.4 < np.mean(flips) < 0.6


def test_brightness_adds_one_number_to_an_image(batch):
    images, _ = run(batch, brightness=0.1)
    shift = images - batch[0] / np.float32(255)
    for before, after, each in zip(batch[0], images, shift, strict=True):
        kept = (after > 0) & (after < 1)
        delta = each[kept].mean()
        assert abs(delta) <= 0.1
        np.testing.assert_allclose(after, np.clip(before / 255 + delta, 0, 1), atol=1e-6)
    assert np.std([each.mean() for each in shift]) > 0.02


def test_contrast_scales_the_distance_to_each_channels_mean(batch):
    images, _ = run(batch, contrast=0.3)
    factors = []
    for before, after in zip(batch[0] / 255, images, strict=True):
        mean = before.mean((0, 1))
        kept = (after > 0) & (after < 1) & (abs(before - mean) > 0.05)
        factor = np.median(((after - mean) / (before - mean))[kept])
        np.testing.assert_allclose(after, np.clip(mean + factor * (before - mean), 0, 1), atol=1e-5)
        factors.append(factor)
    assert 0.7 <= min(factors) < 0.9 < 1.1 < max(factors) <= 1.3


def test_cutout_fills_one_square_with_the_mean(batch):
    side, mean, whole = 4, (0.1, 0.2, 0.3), 0
    for key in range(5):
        images, _ = run(batch, key, cutout=side, mean=mean)
        for before, after in zip(batch[0] / np.float32(255), images, strict=True):
            cut = differs(after, before).any(-1)
            rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
            assert side // 2 <= len(rows) <= side
            assert side // 2 <= len(columns) <= side
            assert cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            np.testing.assert_allclose(after[cut], np.broadcast_to(mean, (cut.sum(), 3)), rtol=1e-6)
            whole += len(rows) == len(columns) == side
            if len(rows) < side:  # only the border makes it smaller
                assert rows[0] == 0 or rows[-1] == 8
    assert whole > 20


def shares(batch, targets):
    """Each image's own share, read from its mixed target where its partner has another class."""
    partner = np.roll(batch[1], -1, axis=0)
    own, other = (targets * batch[1]).sum(-1), (targets * partner).sum(-1)
    different = (batch[1] * partner).sum(-1) == 0
    np.testing.assert_allclose((own + other)[different], 1, rtol=1e-5)
    return own, different


def test_mixup_is_the_weighted_sum_with_the_next_image(batch):
    images, targets = run(batch, mixup=1.0)
    share, different = shares(batch, targets)
    own = batch[0] / 255
    expected = share[:, None, None, None] * own + (1 - share)[:, None, None, None] * np.roll(own, -1, axis=0)
    np.testing.assert_allclose(images[different], expected[different], atol=1e-5)
    assert np.std(share[different]) > 0.15  # uniform on [0, 1]: 0.29


def test_cutmix_pastes_a_box_of_the_next_image_and_counts_its_pixels(batch):
    images, targets = run(batch, cutmix=1.0)
    share, different = shares(batch, targets)
    own = batch[0] / np.float32(255)
    other = np.roll(own, -1, axis=0)
    pasted = differs(images, own).any(-1)
    np.testing.assert_allclose(images, np.where(pasted[..., None], other, own), atol=1e-6)
    np.testing.assert_allclose(pasted.mean((1, 2))[different], 1 - share[different], atol=1e-6)
    for cut in pasted[pasted.any((1, 2))]:
        rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
        assert cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert np.std(share[different]) > 0.1


def test_with_both_switched_on_each_image_gets_one_of_them(batch):
    images, _ = run(batch, mixup=1.0, cutmix=1.0)
    own = batch[0] / np.float32(255)
    other = np.roll(own, -1, axis=0)
    cut = ~(differs(images, own) & differs(images, other)).any((1, 2, 3))
    assert 4 < cut.sum() < 20


def test_padding_is_never_mixed_into_an_image(batch):
    images, targets, _ = batch
    count = 17
    mask = (np.arange(SIZE) < count).astype(np.float32)

    def real(changed=None):
        given = images.copy()
        if changed is not None:
            given[changed] = 255
        return tuple(values[:count] for values in run((given, targets, mask), **ALL))

    expected = real()
    for a, b in zip(expected, real(slice(count, None)), strict=True):
        np.testing.assert_array_equal(a, b)
    other_first = real(0)[0]
    differing = {i for i in range(count) if (other_first[i] != expected[0][i]).any()}
    assert differing == {0, count - 1}  # the last image's partner is the first


def test_switching_one_off_leaves_the_draws_of_the_others(batch):
    both, _ = run(batch, crop=2, flip=True)
    cropped, _ = run(batch, crop=2)
    assert ((both == cropped) | (both == cropped[:, :, ::-1])).all((1, 2, 3)).all()


def test_devices_that_share_a_batch_compute_the_same(batch):
    devices = min(2, len(jax.devices()))
    expected = run(batch, **ALL)
    mesh = jax.make_mesh((devices,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec('batch')
    each = jax.shard_map(
        lambda *x: augment.augment(*x, options(**ALL), axis_name='batch'),
        mesh=mesh,
        in_specs=(spec, spec, spec, jax.sharding.PartitionSpec()),
        out_specs=(spec, spec),
    )
    for a, b in zip(expected, jax.jit(each)(*batch, jax.random.key(0)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    placed = jax.device_put(batch, jax.sharding.NamedSharding(mesh, spec))
    for a, b in zip(expected, run(placed, **ALL), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_same_key_same_images_other_key_others(batch):
    first, again, other = run(batch, 0, **ALL), run(batch, 0, **ALL), run(batch, 1, **ALL)
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_normalise(batch, dtype):
    images = batch[0] if dtype == np.uint8 else (batch[0] / 255).astype(np.float32)
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)
    expected = (batch[0] / 255 - mean) / std
    np.testing.assert_allclose(
        augment.normalise(jnp.asarray(images), mean, std), expected, rtol=1e-4, atol=1e-5
    )
    half = augment.normalise(jnp.asarray(images), mean, std, jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
