"""Mean and deviation of the training images, for `data.mean=auto`."""

from collections.abc import Mapping

import numpy as np

from train.config import AUTO, ConfigDict
from train.data.imageset import ImageSet
from train.data.splits import load

BLOCK = 1024  # images counted at a time


def resolved(config: ConfigDict, sets: Mapping[str, ImageSet]) -> ConfigDict:
    """The config with numbers where `data.mean` is 'auto': those of the training images.

    They are taken from `sets`, or loaded where they are not among them. A run stores the numbers in place of
    'auto', so that resuming, evaluation and conversion use the same ones.
    """
    if config.data.mean != AUTO:
        return config
    train = sets['train'] if 'train' in sets else load(config.data, 'train', seed=config.seed)
    config = config.copy_and_resolve_references()
    config.data.mean, config.data.std = mean_and_deviation(train)
    return config


def mean_and_deviation(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, standard deviation) of all pixels in [0, 1], one of each per channel, to six digits.

    They are computed from integer counts of the 256 values, so every machine gets the same numbers. Of a
    channel with a single value the deviation is given as 1, because pixels are divided by it.
    """
    channels = images.image_shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), BLOCK):
        block = images.gather(np.arange(start, min(start + BLOCK, len(images))))
        counts += [np.bincount(block[..., c].ravel(), minlength=256) for c in range(channels)]
    values = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt((shares * (values - means[:, None]) ** 2).sum(1))
    return _rounded(means), tuple(value or 1.0 for value in _rounded(deviations))


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
