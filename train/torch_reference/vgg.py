"""torchvision's VGG16 (document 003) in `torch.nn`: see `networks.py`."""

from collections.abc import Sequence

from torch import Tensor, nn


class VGG16(nn.Module):
    """torchvision's VGG16; pruned (document 003): without the second convolution."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        pruned: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: Sequence[int] | None = None,
        dropout: Sequence[float] | None = None,
        pooled: int = 7,
    ):
        super().__init__()
        hidden = hidden or ((4096, 256) if pruned else (4096, 4096))
        dropout = dropout or ((0.2, 0.1) if pruned else (0.5, 0.5))
        channels = image_shape[2]
        layers: list[nn.Module] = []
        for width, count in zip(widths, (1 if pruned else 2, 2, 3, 3, 3), strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(
            nn.Linear(pooled**2 * channels, hidden[0]),
            nn.ReLU(),
            nn.Dropout(dropout[0]),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Dropout(dropout[1]),
            nn.Linear(hidden[1], num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))
