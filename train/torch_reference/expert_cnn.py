"""The expert-branch CNN (document 002) in `torch.nn`: see `networks.py`."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExpertBlock(nn.Module):
    """Branches weighted by the image: sum over k of a_k * branch_k(x), a = softmax(W2 ReLU(W1 mean(x)))."""

    def __init__(self, width: int, experts: int, reduction: int, kernel_size: int):
        super().__init__()
        self.squeeze = nn.Linear(width, width // reduction)
        self.excite = nn.Linear(width // reduction, experts)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.excite(F.relu(self.squeeze(x.mean((2, 3))))).softmax(1)
        branches = torch.stack([conv(x) for conv in self.convs], dim=1)
        return (weights[:, :, None, None, None] * branches).sum(1)


class ExpertCNN(nn.Module):
    """Document 002."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: int = 8,
        width: int = 64,
        experts: int = 3,
        reduction: int = 8,
        kernel_size: int = 3,
        stem_kernel_size: int = 3,
        stem_padding: int = 1,
    ):
        super().__init__()
        stem = nn.Conv2d(image_shape[2], width, stem_kernel_size, padding=stem_padding)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            *[ExpertBlock(width, experts, reduction, kernel_size) for _ in range(blocks)]
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))
