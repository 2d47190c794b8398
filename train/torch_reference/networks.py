"""The documents' networks in `torch.nn`, under the published key names.

Twins of `flaxnets.create_model`: `create(name, **options)` takes the same names and options, and a
twin's state dict is what a user of the published code has, with the weights that it never uses. Written from
the specification and checked with `tests/golden`, so that tests and benchmarks can compare `flaxnets` with
PyTorch code that runs. Nothing else imports this file.

Images are NCHW, logits [B, num_classes].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from train.torch_reference import convnn, framework
from train.torch_reference.block_cnn import BlockCNN
from train.torch_reference.expert_cnn import ExpertCNN
from train.torch_reference.mnist import MLP, MnistCNN
from train.torch_reference.profiled_cnn import ProfiledCNN
from train.torch_reference.vgg import VGG16
from train.torch_reference.vit import ViT

VGGS = {
    'vgg11': (1, 1, 2, 2, 2),
    'vgg13': (2, 2, 2, 2, 2),
    'vgg16_bn': (2, 2, 3, 3, 3),
    'vgg19': (2, 2, 4, 4, 4),
}
RESNETS = {'resnet18': (2, 2, 2, 2), 'resnet34': (3, 4, 6, 3)}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    'block_cnn': BlockCNN,
    'expert_cnn': ExpertCNN,
    'vit': ViT,
    'profiled_cnn': ProfiledCNN,
    'vgg16': VGG16,
    'mlp': MLP,
    'mnist_cnn': MnistCNN,
    'vit_tiny': framework.ViT,
    **{name: functools.partial(framework.VGG, convolutions=counts) for name, counts in VGGS.items()},
    **{name: functools.partial(framework.ResNet, blocks=counts) for name, counts in RESNETS.items()},
}


def create(
    name: str, *, num_classes: int = 10, image_shape: Sequence[int] = (32, 32, 3), **options: Any
) -> nn.Module:
    """The twin of `flaxnets.create_model(name, ...)`, with PyTorch's default initial values.

    Classes and image shape have one default for all, 10 and CIFAR's.
    """
    if name in NETWORKS:
        return NETWORKS[name](num_classes, image_shape, **options)
    return convnn.create(name, num_classes, image_shape, **options)
