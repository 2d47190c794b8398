"""ResNet with ConvNN layers on CIFAR-10 and CIFAR-100 (the paper of document 000, arXiv 2511.14137).

    python -m train --config configs/framework_resnet.py
    python -m train --config configs/framework_resnet.py:model=resnet34,layer=conv,data=cifar100
    python -m train --config configs/framework_resnet.py:honest
    python -m train --config configs/framework_resnet.py:digits

The map keeps 32 x 32 pixels in all layers; `--config.model.stride=imagenet` with `layer=conv` is
torchvision's network. Published are code and recipe, but no runs of these networks. They need a GPU.
`digits`: 93.87% after 10 epochs, on one core of an AMD EPYC.
"""

from train import config as c
from train import recipes


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe: `model=resnet18|resnet34`, `data=cifar10|cifar100`, the layer's options,
    `honest`, `digits`."""
    variation = c.variation(
        argument, model='resnet18', data='cifar10', honest=False, digits=False, **recipes.IMAGE_LAYER
    )
    config = c.defaults()
    recipes.framework(config, variation.data, honest=variation.honest)
    config.model.name = c.one_of('model', variation.model, ('resnet18', 'resnet34'))
    config.model.update({key: variation[key] for key in recipes.IMAGE_LAYER})
    if variation.digits:
        c.embedded_digits(config, image_size=8, channels=3)
        config.model.widths = (16, 16, 32, 32)
        config.model.blocks = (1, 1, 1, 1)
        config.model.dropout = 0.0
        config.data.batch_size = 64
        config.epochs = 10
        config.optimizer.learning_rate = 2e-3
    return config
