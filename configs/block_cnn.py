"""Block CNN on CIFAR-10 (document 001): how deep can it be with and without batch normalisation?

    python -m train --config configs/block_cnn.py:blocks=10,batch_norm
    python -m train --config configs/block_cnn.py:blocks=6
    python -m train --config configs/block_cnn.py:blocks=10,batch_norm,both_halves
    python -m train --config configs/block_cnn.py:blocks=2,digits

A block declares two convolutions, and the document's code feeds the second with the block's input, so
that the first has no effect: `blocks=10` computes 10 convolutions, not 20. The published figures come
from that code, and so it is the default here. `both_halves` uses both, the block as it was meant.

Published test accuracy after 51 epochs (percent): 10 blocks with batch normalisation 55.26; without
it 2 blocks 53.77, 4 blocks 44.29, 6 blocks 10.03 (best epoch 13.92), 8 and 10 blocks 10.00: from 6
blocks on it stays at chance. First epoch with 10 blocks and batch normalisation: 27.65.

Ours, first epoch with 10 blocks and batch normalisation, seeds 0 to 3 (2 shared cores of an AMD EPYC;
CIFAR-10's images after one JPEG compression):

    as published    21.61 24.21 16.22 25.00
    both halves     18.62 16.40 10.53 22.50

Six blocks without batch normalisation, first epoch, seed 0: 10.00 either way.

The document evaluates in training mode after each epoch, on the test set and on the training set.
"""

from train import config as c


def get_config(argument: str = '') -> c.ConfigDict:
    """The published recipe, or a variation of it: `blocks=N`, `batch_norm`, `both_halves`, `digits`.

    `oversight`, the earlier name of what is now the default, is still accepted.
    """
    variation = c.variation(
        argument, blocks=10, batch_norm=False, both_halves=False, oversight=True, digits=False
    )
    config = c.defaults()
    config.epochs = 51  # int(20000 / (50000 / 128)): 20,000 steps in the document's arithmetic
    config.evaluate_with_batch_statistics = True
    config.evaluate_train_set = True
    config.convolution = 'auto'
    config.model.name = 'block_cnn'
    config.model.blocks = variation.blocks
    config.model.batch_norm = variation.batch_norm
    config.model.oversight = variation.oversight and not variation.both_halves
    config.data.name = 'cifar10'
    config.data.batch_size = 128
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.optimizer.name = 'sgd'
    config.optimizer.learning_rate = 0.01
    if variation.digits:
        c.embedded_digits(config, image_size=32, channels=3)
        config.epochs = 12
        config.data.batch_size = 32
        config.optimizer.learning_rate = 0.05  # at 0.01 it takes 15 epochs to get away from chance
    return config
