"""ViT-Tiny with attention, ConvNN or k-NN attention on CIFAR-10 and CIFAR-100 (the paper of document 000,
arXiv 2511.14137).

    python -m train --config configs/framework_vit.py
    python -m train --config configs/framework_vit.py:layer=attention,data=cifar100
    python -m train --config configs/framework_vit.py:sampling=random
    python -m train --config configs/framework_vit.py:honest
    python -m train --config configs/framework_vit.py:digits

Published, the best test accuracy of 150 epochs (percent), 1 head, CIFAR-10 / 100:

    attention                     77.64 / 50.19
    ConvNN, all tokens, K = 9     74.39 / 49.17
    ConvNN, 32 random tokens      80.27 / 54.05
    ConvNN, 32 spread tokens      63.95 / 38.96
    k-NN attention, K = 9         75.77 / 48.99

Images are resized to 224 x 224: a GPU is needed. `honest` as in `framework_vgg.py`. `digits`: 94.71% after
8 epochs, on one core of an AMD EPYC.
"""

from train import config as c
from train import recipes


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe: `data=cifar10|cifar100`, the layer's options, `honest`, `digits`."""
    variation = c.variation(argument, data='cifar10', honest=False, digits=False, **recipes.TOKEN_LAYER)
    config = c.defaults()
    recipes.framework(config, variation.data, honest=variation.honest)
    config.data.image_size = (224,)
    config.model.name = 'vit_tiny'
    config.model.update({key: variation[key] for key in recipes.TOKEN_LAYER})
    if variation.digits:
        c.embedded_digits(config, image_size=16, channels=3)
        config.model.patch_size = 2
        config.model.blocks = 3
        config.model.width = 48
        config.model.mlp_width = 96
        config.data.batch_size = 64
        config.epochs = 8
        config.optimizer.learning_rate = 2e-3
    return config
