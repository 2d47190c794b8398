"""VGG with ConvNN layers on CIFAR-10 and CIFAR-100 (the paper of document 000, arXiv 2511.14137).

    python -m train --config configs/framework_vgg.py
    python -m train --config configs/framework_vgg.py:ratio=0.25,data=cifar100
    python -m train --config configs/framework_vgg.py:similarity=euclidean,aggregation=both
    python -m train --config configs/framework_vgg.py:model=vgg19,sampling=random,num_samples=32
    python -m train --config configs/framework_vgg.py:honest
    python -m train --config configs/framework_vgg.py:small,ratio=1.0
    python -m train --config configs/framework_vgg.py:digits

Published for VGG-11, K = 9, the best test accuracy of 150 epochs (percent) by branching ratio,
CIFAR-10 / 100:

    ratio                       0              0.25           0.5            0.75           1
    cosine, features            80.80 / 45.71  81.93 / 47.87  82.79 / 48.93  79.83 / 48.29  55.31 / 31.14
    euclidean, and position     81.06 / 45.14  82.22 / 48.15  83.12 / 50.12  81.90 / 50.37  68.77 / 40.81

The second line compares and gathers both, `similarity_of=both,aggregation=both`. With 130 million
parameters, a GPU is needed. The published runs choose the best epoch on the test images and do not augment;
`honest` keeps a tenth of the training images for that choice, crops, flips, and anneals the learning rate.
`small` is a narrow VGG on 5,000 images for one core of a CPU, without dropout and with ten times the rate.
`digits`: 94.15% after 8 epochs, on two shared cores of an AMD EPYC.
"""

from train import config as c
from train import recipes


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe: `model=vgg11|vgg13|vgg16_bn|vgg19`, `data=cifar10|cifar100`, the layer's options,
    `honest`, `small`, `digits`."""
    flags = {'honest': False, 'small': False, 'digits': False}
    variation = c.variation(argument, model='vgg11', data='cifar10', **flags, **recipes.IMAGE_LAYER)
    config = c.defaults()
    recipes.framework(config, variation.data, honest=variation.honest)
    config.model.name = c.one_of('model', variation.model, ('vgg11', 'vgg13', 'vgg16_bn', 'vgg19'))
    config.model.update({key: variation[key] for key in recipes.IMAGE_LAYER})
    if variation.small:
        config.model.widths = (16, 32, 64, 64, 64)
        config.model.hidden = (128, 128)
        config.model.pooled = 1
        config.model.dropout = 0.0
        config.data.limit = 5000
        config.data.test_limit = 1000
        config.data.batch_size = 16
        config.data.eval_batch_size = 125
        config.epochs = 4
        config.optimizer.learning_rate = 1e-3
    if variation.digits:
        c.embedded_digits(config, image_size=32, channels=3, crop=config.data.augment.crop)
        config.model.widths = (8, 16, 32, 32, 32)
        config.model.hidden = (64, 64)
        config.model.pooled = 1
        config.model.dropout = 0.0
        config.data.batch_size = 32
        config.epochs = 8
        config.optimizer.learning_rate = 2e-3
    return config
