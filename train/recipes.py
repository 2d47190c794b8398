"""Recipes that several files of `configs/` share: they set a config's epochs, model, data and optimiser."""

from typing import Any

from ml_collections import ConfigDict

from train import config as c

CIFAR_100 = {'mean': (0.5071, 0.4867, 0.4408), 'std': (0.2675, 0.2565, 0.2761)}
CIFAR_10 = {'mean': (0.4914, 0.4822, 0.4465), 'std': (0.2470, 0.2435, 0.2616)}


def convnn(config: ConfigDict, model: str, layers: int) -> None:
    """The recipe of document 000, the same for its ten models at 2, 4 or 8 layers."""
    config.epochs = 100
    config.convolution = 'auto'
    config.model.name = model
    config.model.num_layers = layers
    config.data.name = 'cifar10'
    config.data.batch_size = 64
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2023, 0.1994, 0.2010)
    config.optimizer.name = 'adam'
    config.optimizer.learning_rate = 1e-4


def profiled(config: ConfigDict, model: str, *, pruned: bool, crop: bool) -> None:
    """The recipe of document 003, question 2, the same for its two networks."""
    config.epochs = 10
    config.convolution = 'auto'
    config.model.name = model
    config.model.pruned = pruned
    config.data.name = 'cifar10'
    config.data.batch_size = 32
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.data.augment.crop = 4 if crop else 0
    config.data.augment.flip = True
    config.optimizer.name = 'adam'
    config.optimizer.learning_rate = 1e-4


def framework(config: ConfigDict, dataset: str, *, honest: bool) -> None:
    """The recipe of the logged runs behind arXiv 2511.14137, the same for all its networks.

    It has no augmentation and reports the best of all epochs on the test images. `honest` chooses the epoch
    on a tenth of the training images, augments, and lets the learning rate fall.
    """
    pixels = c.choose('data', dataset, {'cifar10': CIFAR_10, 'cifar100': CIFAR_100})
    config.epochs = 150
    config.convolution = 'auto'
    config.data.name = dataset
    config.data.batch_size = 256
    config.data.update(pixels)
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    if honest:
        config.data.validation = 0.1
        config.data.augment.crop = 4
        config.data.augment.flip = True
        config.optimizer.decay = 'kernels'
        config.schedule.name = 'cosine'
        config.schedule.warmup_epochs = 5.0


# What the configs of the framework's VGG and ResNet take after the colon, under the options' names.
IMAGE_LAYER: dict[str, Any] = {
    'layer': 'branching',
    'ratio': 0.5,
    'num_neighbors': 9,
    'similarity': 'cosine',
    'similarity_of': 'features',
    'aggregation': 'features',
    'sampling': 'all',
    'num_samples': 16,
}
# The same for its ViT.
TOKEN_LAYER: dict[str, Any] = {
    'layer': 'convnn_attention',
    'heads': 1,
    'num_neighbors': 9,
    'convolution': 'depthwise',
    'sampling': 'all',
    'num_samples': 32,
}
