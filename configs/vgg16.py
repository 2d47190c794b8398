"""VGG16 on CIFAR-10 (document 003, question 2), whole and pruned.

    python -m train --config configs/vgg16.py
    python -m train --config configs/vgg16.py:pruned
    python -m train --config configs/vgg16.py:crop
    python -m train --config configs/vgg16.py:digits

Published after 10 epochs: 88.09% test accuracy in 1,239 s whole (it keeps its 1,000 outputs), 80.62% in
1,093 s without the second convolution and with a narrow head; 84% and 67% after the first epoch. The
document does not say that it starts from ImageNet weights; these figures and the 1,000 outputs do. With
a checkpoint of torchvision's or timm's VGG16 add `--config.init_from.path=vgg16.pth`, and for the
pruned network `--config.init_from.skip='classifier\\.[36]'`, whose shapes are its own; without, these
commands train from scratch.

Not stated there and chosen here: Adam 1e-4, batch 32, and no padding of the random crop, which then
leaves the images as they are (`profiled_cnn.py` says why); `crop` pads by 4. The `digits` variation
narrows the network (after 15 epochs, seed 0: 97.2%); the others have 138 and 118 million
parameters and need a GPU.
"""

from train import config as c
from train import recipes


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe, or a variation of it: `pruned`, `crop`, `digits`."""
    variation = c.variation(argument, pruned=False, crop=False, digits=False)
    config = c.defaults()
    recipes.profiled(config, 'vgg16', pruned=variation.pruned, crop=variation.crop)
    config.model.num_classes = 10 if variation.pruned else 1000
    if variation.digits:
        c.embedded_digits(config, image_size=32, channels=3, crop=1)
        config.model.widths = (8, 16, 32, 32, 32)
        config.model.hidden = (64, 64)
        config.model.pooled = 1
        config.epochs = 15
        config.optimizer.learning_rate = 1e-3
    return config
