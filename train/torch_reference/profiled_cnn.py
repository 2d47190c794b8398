"""The profiled CNN (document 003) in `torch.nn`: see `networks.py`."""

from collections.abc import Sequence

from torch import Tensor, nn


class ProfiledCNN(nn.Module):
    """Document 003; pruned: without the first convolution."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        pruned: bool = False,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        hidden: Sequence[int] = (1024, 256),
        dropout: Sequence[float] = (0.2, 0.1),
    ):
        super().__init__()
        height, breadth, channels = image_shape
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            if not (pruned and i == 0):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
                if 0 < i < len(widths) - 1:
                    layers.append(nn.MaxPool2d(2))
        self.conv_layers = nn.Sequential(*layers)
        self.fc_layers = nn.Sequential(
            nn.Dropout(dropout[0]),
            nn.Linear((height // 8) * (breadth // 8) * channels, hidden[0]),
            nn.ReLU(),
            nn.Dropout(dropout[1]),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Linear(hidden[1], num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.fc_layers(self.conv_layers(images).flatten(1))
