"""Random images in the shape of a config's data: what is measured needs no files and no data library."""

import numpy as np

from flaxnets import registry
from train import config as options
from train.data.imageset import ImageSet

BATCHES = 4  # of each split: more than one, so that a step gathers its images


def shape(config: options.ConfigDict) -> tuple[int, int, int]:
    """(height, width, channels) that the config's model is given."""
    height, width, channels = registry.entry(config.model.name).options()['image_shape'].default
    if config.data.image_size:
        height, width = (*config.data.image_size, *config.data.image_size)[:2]
    return height, width, config.data.channels or len(config.data.mean) or channels


def splits(config: options.ConfigDict) -> dict[str, ImageSet]:
    """Training and test images, every pixel and label drawn at random."""
    classes = len(config.data.classes) or 10
    made = {}
    for seed, (split, batch_size) in enumerate(
        {
            'train': config.data.batch_size,
            'test': config.data.eval_batch_size or config.data.batch_size,
        }.items()
    ):
        rng, count = np.random.default_rng(seed), BATCHES * batch_size
        pixels = rng.integers(0, 256, (count, *shape(config)), dtype=np.uint8)
        names = tuple(map(str, range(classes)))
        made[split] = ImageSet.of(pixels, np.arange(count) % classes, names, name='synthetic', split=split)
    return made
