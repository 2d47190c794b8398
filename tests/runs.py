"""Small real runs for the tests: the embedded digits, shrunk models, the real loop."""

import pathlib
from typing import Any

from train import config as options

ROOT = pathlib.Path(__file__).parent.parent


def digits(tmp_path: pathlib.Path, **changes: Any) -> options.ConfigDict:
    """A config that trains a narrow `cnn` on 8 x 8 digits in a second; `changes` use a__b for a.b."""
    config = options.defaults()
    config.epochs = 2
    config.model.name = 'cnn'
    config.model.width = 4
    options.embedded_digits(config, image_size=8, channels=1)
    config.data.cache_dir = str(tmp_path / 'cache')
    config.data.limit = 200
    config.data.batch_size = 64
    config.optimizer.learning_rate = 0.01
    config.log.tensorboard = False
    config.log.report = False
    config.parallel = 'single'  # the tests' process has several devices
    for key, value in changes.items():
        *parents, last = key.split('__')
        section = config
        for parent in parents:
            section = section[parent]
        section[last] = value
    return config
