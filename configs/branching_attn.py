"""Branching attention net on CIFAR-10 (document 000).

python -m train --config configs/branching_attn.py                     the published experiment
python -m train --config configs/branching_attn.py:layers=8            2, 4 or 8 layers in the document
python -m train --config configs/branching_attn.py:digits              embedded digits, a minute on a laptop
python -m train --config configs/branching_attn.py:digits,layers=4

Published, 2 layers: test accuracy 42.40% after the first epoch, 63.61% at best (one GPU, not named).
Ours: 41.68% after the first epoch, seed 0 (2 shared cores of an AMD EPYC, jax 0.10.2; CIFAR-10's images
after one JPEG compression). The digits: 98.05% after 42 s on the same cores.
"""

from train import config as c
from train import recipes


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe, or a variation of it: `digits`, `layers=N`."""
    variation = c.variation(argument, digits=False, layers=2)
    config = c.defaults()
    recipes.convnn(config, 'branching_attn', variation.layers)
    if variation.digits:
        # 1,437 images are 23 steps an epoch: fewer epochs at a higher rate, annealed.
        c.embedded_digits(config, image_size=32, channels=3)
        config.epochs = 8
        config.optimizer.learning_rate = 2e-3
        config.schedule.name = 'cosine'
        config.schedule.unit = 'step'
        config.schedule.warmup_epochs = 0.5
    return config
