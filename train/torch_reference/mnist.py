"""The networks for MNIST (document 004) in `torch.nn`: see `networks.py`."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from train.torch_reference.activations import ACTIVATIONS


class MLP(nn.Module):
    """Document 004."""

    def __init__(self, num_classes: int, image_shape: Sequence[int], *, hidden: Sequence[int] = (50, 50)):
        super().__init__()
        height, breadth, channels = image_shape
        self.hidden1 = nn.Linear(height * breadth * channels, hidden[0])
        self.hidden2 = nn.Linear(hidden[0], hidden[1])
        self.output = nn.Linear(hidden[1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.hidden1(images.flatten(1)))
        return self.output(F.relu(self.hidden2(x)))


class MnistLayer(nn.Module):
    """One of the layers after each convolution: [x +] conv(act([norm](x)))."""

    def __init__(self, width: int, act: nn.Module, skip: bool, batch_norm: bool):
        super().__init__()
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.act = act
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.act(self.norm(x)))
        return x + y if self.skip else y


class MnistCNN(nn.Module):
    """Document 004: convolutions with pooling between them, plain or with `residual` layers after each."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        widths: Sequence[int] = (8, 16, 32),
        order: str = 'act_pool',
        activation: str = 'relu',
        residual: int = 0,
        skip: bool = True,
        batch_norm: bool = False,
        oversight: bool = False,
    ):
        super().__init__()
        height, breadth, channels = image_shape
        self.act = ACTIVATIONS[activation]()
        self.stages = len(widths)
        for i, width in enumerate(widths, 1):
            setattr(self, f'conv{i}', nn.Conv2d(channels, width, 3, padding=1))
            act = nn.Identity() if oversight and i == 2 else self.act
            if residual:
                layers = [MnistLayer(width, act, skip, batch_norm) for _ in range(residual)]
                setattr(self, f'layer{i}', nn.Sequential(*layers))
            channels = width
        pool = nn.MaxPool2d(2)
        between = [pool] if residual else [pool, self.act] if order == 'pool_act' else [self.act, pool]
        self.between = nn.Sequential(*between)
        halved = 2 ** (len(widths) - 1)
        self.output = nn.Linear((height // halved) * (breadth // halved) * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for i in range(1, self.stages + 1):
            x = getattr(self, f'conv{i}')(x if i == 1 else self.between(x))
            if hasattr(self, f'layer{i}'):
                x = getattr(self, f'layer{i}')(x)
        return self.output(self.act(x).flatten(1))
