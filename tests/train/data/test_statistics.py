"""data.mean=auto: measured once on the training images, and the same numbers ever after."""

import json

import numpy as np
import pytest
import runs
import tiny_sets
from tiny_sets import config

import train
from flaxnets.errors import UserError
from train import config as options
from train import config_flags, data, evaluate
from train.checkpointing.checkpoints import Checkpoints
from train.data.statistics import mean_and_deviation, resolved


def test_they_are_numpys():
    images, labels = tiny_sets.arrays((7, 6, 3), counts={'train': 2100})['train']
    images[..., 1] //= 3
    given = data.ImageSet.of(images, labels, range(10), name='a', split='train')
    for part in (given, given.take(np.arange(5, 1500))):
        means, deviations = mean_and_deviation(part)
        pixels = part.images / 255
        np.testing.assert_allclose(means, pixels.mean((0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(deviations, pixels.std((0, 1, 2)), atol=1e-6)


def test_a_channel_of_one_value_is_not_divided_by_0():
    images = np.full((4, 2, 2, 1), 51, np.uint8)
    given = data.ImageSet.of(images, np.arange(4) % 2, 'ab', name='a', split='train')
    assert mean_and_deviation(given) == ((0.2,), (1.0,))


def auto(tmp_path, **changes):
    return runs.digits(tmp_path, data__mean='auto', **changes)


def test_a_run_measures_once(tmp_path, capsys):
    workdir = tmp_path / 'run'
    train.run(auto(tmp_path, epochs=1), workdir)
    stored = json.loads((workdir / 'config.json').read_text())
    images = data.load(config(limit=200, image_size=8, channels=1), 'train')
    expected = [list(values) for values in mean_and_deviation(images)]
    assert [stored['data']['mean'], stored['data']['std']] == expected
    checkpoints = Checkpoints(workdir, read_only=True)
    meta = checkpoints.meta(checkpoints.steps()[-1])
    checkpoints.close()
    assert list(meta.card.preprocessing['mean']) == list(meta.config['data']['mean']) == expected[0]
    assert f'minus {expected[0][0]:.4g}, divided by {expected[1][0]:.4g}' in capsys.readouterr().out
    # the same command again, for longer; and the same numbers, given, are the same run
    summary = train.run(auto(tmp_path, epochs=2), workdir)
    given = runs.digits(tmp_path, data__mean=tuple(expected[0]), data__std=tuple(expected[1]))
    assert train.run(given, tmp_path / 'given')['test_loss'] == summary['test_loss']
    assert evaluate.evaluate(workdir, checkpoint='last')['loss'] == summary['test_loss']


def test_from_the_command_line(tmp_path):
    argv = ['train', '--config', str(runs.ROOT / 'configs/mnist.py:exercise=1,digits')]
    parsed, workdir = config_flags.parse([*argv, '--config.data.mean=auto'])
    assert (parsed.data.mean, parsed.data.std) == (options.AUTO, ())
    assert workdir == config_flags.parse([*argv, '--config.data.mean=auto'])[1]
    with pytest.raises(UserError, match=r'config\.data\.std: expected numbers'):
        config_flags.parse([*argv, '--config.data.std=auto'])


def test_splits_without_training_images(tmp_path):
    """The training images are loaded where they are not given."""
    checked = options.validate(auto(tmp_path))
    numbers = resolved(checked, {}).data
    assert (numbers.mean, numbers.std) == mean_and_deviation(data.load(checked.data, 'train'))
    assert checked.data.mean == options.AUTO


@pytest.mark.parametrize(('key', 'value'), [('image_size', 8), ('classes', 'a'), ('image_size', (8, 8))])
def test_one_value_is_a_tuple_of_one_in_python_too(key, value):
    settings = options.defaults()
    settings.data[key] = value
    assert options.validate(settings).data[key] == (value if isinstance(value, tuple) else (value,))
    settings.epochs = 'many'
    with pytest.raises(UserError, match=r"config\.epochs: expected int at least 1, got 'many'"):
        options.validate(settings)
