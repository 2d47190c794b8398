"""The published framework's networks in `torch.nn`: see `networks.py`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
