"""Small vision transformers on the even classes of CIFAR-10 (document 003, question 1).

    python -m train --config configs/vit.py:position=learned,activation=gelu
    python -m train --config configs/vit.py:digits

Published test accuracy after 10 epochs (percent), by position table and activation:

               relu     tanh     gelu
    cosine     43.62    42.90    41.96      6 blocks, 8 heads, width 8
    learned    45.60    45.72    46.44      4 blocks, 6 heads, width 12

The document does not state the initial values of the learned table; ours are normal with deviation 1. With
deviation 0.02, which is more usual for ViTs, or uniform from 0 to 1, the test accuracy ends further above the
published one: `--config.model.position_init`. What was measured is in docs/reproduction.md.

The document's models end in softmax and its loss applies softmax again: `loss.softmax_twice`.
"""

from train import config as c


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe: `position=cosine|learned`, `activation=relu|tanh|gelu`, `digits`."""
    variation = c.variation(argument, position='cosine', activation='relu', digits=False)
    config = c.defaults()
    config.epochs = 10
    config.model.name = 'vit'
    config.model.position = variation.position
    config.model.activation = variation.activation
    sizes = c.choose('position', variation.position, {'cosine': (6, 8, 8), 'learned': (4, 6, 12)})
    config.model.position_init = 'normal_1'
    config.model.blocks, config.model.heads, config.model.width = sizes
    config.loss.softmax_twice = True
    config.data.name = 'cifar10'
    config.data.classes = ('airplane', 'bird', 'deer', 'frog', 'ship')
    config.data.batch_size = 32
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.optimizer.name = 'adam'
    config.optimizer.learning_rate = 1e-4
    if variation.digits:
        c.embedded_digits(config, image_size=16, channels=3)
        config.data.classes = (0, 2, 4, 6, 8)
        config.epochs = 30
        config.optimizer.learning_rate = 3e-3
    return config
