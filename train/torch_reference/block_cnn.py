"""The block CNN (document 001) in `torch.nn`: see `networks.py`."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """(convolution, [batch normalisation], ReLU) twice; with `oversight` the second acts on the input."""

    def __init__(self, width: int, batch_norm: bool, oversight: bool):
        super().__init__()
        self.oversight = oversight
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.batch_norm = batch_norm
        if batch_norm:
            self.bn1 = nn.BatchNorm2d(width)
            self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        if not self.oversight:
            x = self.conv1(x)
            x = F.relu(self.bn1(x) if self.batch_norm else x)
        x = self.conv2(x)
        return F.relu(self.bn2(x) if self.batch_norm else x)


class BlockCNN(nn.Module):
    """Document 001."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: int = 10,
        batch_norm: bool = False,
        oversight: bool = False,
        width: int = 8,
        head_width: int = 4,
        hidden: int = 100,
    ):
        super().__init__()
        height, breadth, channels = image_shape
        self.conv1 = nn.Conv2d(channels, width, 5)
        self.conv2 = nn.Conv2d(width, width, 5, stride=2)
        self.blocks = nn.Sequential(*[ConvBlock(width, batch_norm, oversight) for _ in range(blocks)])
        self.conv3 = nn.Conv2d(width, head_width, 3, stride=2)
        rows, columns = (((side - 9) // 2 - 2) // 2 + 1 for side in (height, breadth))
        self.fc1 = nn.Linear(rows * columns * head_width, hidden)
        self.fc2 = nn.Linear(hidden, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv3(self.blocks(self.conv2(self.conv1(images))))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))
