"""The ConvNN family on CIFAR-10 (document 000): ten models, 2, 4 or 8 layers, one recipe.

    python -m train --config configs/convnn.py:model=convnn_all,layers=4
    python -m train --config configs/convnn.py:model=cnn,digits

Models: cnn, attention, convnn_all, convnn_random, convnn_spatial, convnn_attn, branching_all,
branching_random, branching_spatial, branching_attn.

Published test accuracy (percent; one GPU, not named): first epoch / best of 100 epochs, a run each.

                       2 layers         4 layers         8 layers
    cnn                49.65 / 62.91    46.45 / 62.32    44.25 / 60.93
    attention          30.23 / 45.73    23.70 / 44.43    24.13 / 39.96
    convnn_all         48.38 / 59.53    44.20 / 57.87    43.05 / 55.76
    convnn_random      44.47 / 59.92    43.06 / 58.67    38.88 / 58.80
    convnn_spatial     45.38 / 55.44    43.67 / 53.15    38.43 / 52.76
    convnn_attn        39.46 / 59.63    26.16 / 58.73     9.89 / 54.03
    branching_all      45.78 / 61.07    40.27 / 59.21    40.47 / 55.51
    branching_random   44.18 / 60.26    37.81 / 59.83    33.35 / 58.50
    branching_spatial  45.42 / 59.87    39.52 / 58.15    37.26 / 56.16
    branching_attn     42.40 / 63.61    40.47 / 58.20    21.03 / 60.98

Ours, first epoch, seed 0 (2 shared cores of an AMD EPYC; images after one JPEG compression): with 2
layers cnn 49.41, convnn_all 46.84, branching_attn 41.68.
"""

from train import config as c
from train import recipes


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe, or a variation of it: `model=NAME`, `layers=N`, `digits`."""
    variation = c.variation(argument, model='convnn_all', layers=2, digits=False)
    config = c.defaults()
    recipes.convnn(config, variation.model, variation.layers)
    if variation.digits:
        c.embedded_digits(config, image_size=32, channels=3)
        config.epochs = 8
        config.optimizer.learning_rate = 1e-3
    return config
