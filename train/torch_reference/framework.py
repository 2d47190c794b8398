"""The published framework's networks in `torch.nn`: see `networks.py`."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.torch_reference.framework_layers import image_layer
from train.torch_reference.framework_tokens import TOKEN_LAYERS

NEIGHBOURS = {'num_neighbors': 9, 'sampling': 'all', 'ratio': 0.5}
IMAGE_LAYER = NEIGHBOURS | {
    'layer': 'conv',
    'num_samples': 16,
    'similarity': 'cosine',
    'similarity_of': 'features',
    'blend': 0.5,
    'aggregation': 'features',
    'padding': 1,
    'shuffle_scale': 1,
    'dropout': 0.5,
}
BRANCHING_LAYER = IMAGE_LAYER | {'layer': 'branching'}
TOKEN_LAYER = NEIGHBOURS | {
    'layer': 'attention',
    'heads': 1,
    'dropout': 0.1,
    'num_samples': 32,
    'similarity': 'matmul',
    'convolution': 'depthwise',
    'softmax': True,
    'coordinates': False,
    'oversight': True,
    'kernel_size': 3,
}


class PositionalEncoding(nn.Module):
    """The class token in front, and sines and cosines added, computed in float32."""

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.cls_tokens = nn.Parameter(torch.randn(1, 1, width))
        waves = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
        angles = torch.arange(tokens).float()[:, None] * waves
        table = torch.zeros(tokens, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(angles), torch.cos(angles)[:, : width // 2]
        self.register_buffer('table', table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.cls_tokens.expand(len(x), -1, -1), x], 1) + self.table


class PatchEmbedding(nn.Module):
    """Patches by a convolution, and a norm."""

    def __init__(self, channels: int, width: int, size: int):
        super().__init__()
        self.linear_projection = nn.Conv2d(channels, width, size, stride=size)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.linear_projection(images).flatten(2).transpose(1, 2))


class Block(nn.Module):
    """x += layer(norm(x)); x += MLP(norm(x))."""

    def __init__(self, tokens: int, width: int, hidden: int, options: dict[str, Any]):
        super().__init__()
        self.attention = TOKEN_LAYERS[options['layer']](width, tokens, options)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(options['dropout']), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor, pool: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), pool)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """The framework's vision transformer."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: int = 12,
        width: int = 192,
        mlp_width: int = 768,
        patch_size: int = 16,
        **layer: Any,
    ):
        super().__init__()
        options = TOKEN_LAYER | layer
        height, columns, channels = image_shape
        self.tokens = 1 + (height // patch_size) * (columns // patch_size)
        self.patch_embedding = PatchEmbedding(channels, width, patch_size)
        self.positional_encoding = PositionalEncoding(self.tokens, width)
        self.transformer_encoder = nn.ModuleList(
            Block(self.tokens, width, mlp_width, options) for _ in range(blocks)
        )
        self.classifier = nn.Linear(width, num_classes)

    def pools(self) -> list[tuple[int, int]]:
        """(how many candidates, among how many tokens) of each layer that draws them."""
        layers = [block.attention for block in self.transformer_encoder]
        drawn = [layer.draws(self.tokens) if hasattr(layer, 'draws') else 0 for layer in layers]
        return [(count, self.tokens) for count in drawn if count]

    def forward(self, images: Tensor, candidates: Sequence[Tensor] | None = None) -> Tensor:
        pools = iter(candidates or [])
        x = self.positional_encoding(self.patch_embedding(images))
        for block in self.transformer_encoder:
            x = block(x, next(pools, None))
        return self.classifier(x[:, 0])


def drawn_from(layer: nn.Module, size: tuple[int, int]) -> list[tuple[int, int]]:
    """[(how many candidates, among how many tokens)] of a layer that draws them on such a map, or nothing."""
    count = layer.draws(size) if hasattr(layer, 'draws') else 0
    if not count:
        return []
    options = getattr(layer, 'branch1', layer).options
    rows, columns = (side // options['shuffle_scale'] + 2 * options['padding'] for side in size)
    return [(count, rows * columns)]


def applied(layer: nn.Module, x: Tensor, pools: Iterator[Tensor]) -> Tensor:
    """The layer's output, with the next candidates where it draws them."""
    return layer(x, next(pools)) if drawn_from(layer, (x.shape[2], x.shape[3])) else layer(x)


class VGG(nn.Module):
    """The framework's VGG, with torchvision's keys."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        convolutions: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: Sequence[int] = (4096, 4096),
        pooled: int = 7,
        **layer: Any,
    ):
        super().__init__()
        options = BRANCHING_LAYER | layer
        height, columns, channels = image_shape
        self.drawn: list[tuple[int, int]] = []
        parts: list[nn.Module] = []
        for stage, (width, count) in enumerate(zip(widths, convolutions, strict=True)):
            for _ in range(count):
                made = image_layer(channels, width, options, bias=True)
                self.drawn += drawn_from(made, (height >> stage, columns >> stage))
                parts += [made, nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.pool = nn.AdaptiveAvgPool2d(pooled)
        first, second = hidden
        self.classifier = nn.Sequential(
            nn.Linear(channels * pooled**2, first),
            nn.ReLU(),
            nn.Dropout(options['dropout']),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(options['dropout']),
            nn.Linear(second, num_classes),
        )

    def pools(self) -> list[tuple[int, int]]:
        """(how many candidates, among how many tokens) of each layer that draws them."""
        return self.drawn

    def forward(self, images: Tensor, candidates: Sequence[Tensor] | None = None) -> Tensor:
        pools, x = iter(candidates or []), images
        for part in self.features:
            x = applied(part, x, pools)
        return self.classifier(self.pool(x).flatten(1))


class ResNetBlock(nn.Module):
    """ReLU(norm(layer(ReLU(norm(layer(x))))) + shortcut(x))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, options: dict[str, Any]):
        super().__init__()
        imagenet = options['stride'] == 'imagenet'
        if imagenet:
            self.conv1: nn.Module = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        else:
            self.conv1 = image_layer(in_channels, out_channels, options, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = image_layer(out_channels, out_channels, options, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if in_channels != out_channels or stride > 1:
            shortcut = [nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)]
            norms = [nn.BatchNorm2d(out_channels)] if imagenet else []
            self.downsample = nn.Sequential(*shortcut, *norms)

    def forward(self, x: Tensor, pools: Iterator[Tensor]) -> Tensor:
        y = F.relu(self.bn1(applied(self.conv1, x, pools)))
        y = self.bn2(applied(self.conv2, y, pools))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The framework's ResNet, or torchvision's, with torchvision's keys."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        stride: str = 'one',
        **layer: Any,
    ):
        super().__init__()
        options = BRANCHING_LAYER | layer | {'stride': stride}
        *size, channels = image_shape
        width, imagenet = widths[0], stride == 'imagenet'
        stem = (7, 2, 3) if imagenet else (3, 1, 1)
        self.conv1 = nn.Conv2d(channels, width, *stem, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if imagenet else nn.Identity()
        for stage, (features, count) in enumerate(zip(widths, blocks, strict=True)):
            made = []
            for i in range(count):
                made.append(ResNetBlock(width, features, 2 if imagenet and stage and not i else 1, options))
                width = features
            self.add_module(f'layer{stage + 1}', nn.ModuleList(made))
        self.stages = len(blocks)
        layers = [layer for block in self.blocks() for layer in (block.conv1, block.conv2)]
        self.drawn = [drawn for layer in layers for drawn in drawn_from(layer, (size[0], size[1]))]
        self.dropout = nn.Dropout(0.0 if imagenet else options['dropout'])
        self.fc = nn.Linear(width, num_classes)

    def blocks(self) -> list[Any]:
        """Those of all stages."""
        return [block for i in range(self.stages) for block in self.get_submodule(f'layer{i + 1}').children()]

    def pools(self) -> list[tuple[int, int]]:
        """(how many candidates, among how many tokens) of each layer that draws them."""
        return self.drawn

    def forward(self, images: Tensor, candidates: Sequence[Tensor] | None = None) -> Tensor:
        pools = iter(candidates or [])
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        for block in self.blocks():
            x = block(x, pools)
        return self.fc(self.dropout(x.mean((2, 3))))
