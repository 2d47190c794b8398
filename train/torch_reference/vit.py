"""The vision transformer (document 003) in `torch.nn`: see `networks.py`."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.torch_reference.activations import ACTIVATIONS


class HeadwiseAttention(nn.Module):
    """Self-attention in which every head sees its own slice of the channels, [B, T, C] -> [B, T, C]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        size = width // heads
        self.q_mappings = nn.ModuleList(nn.Linear(size, size) for _ in range(heads))
        self.k_mappings = nn.ModuleList(nn.Linear(size, size) for _ in range(heads))
        self.v_mappings = nn.ModuleList(nn.Linear(size, size) for _ in range(heads))

    def forward(self, tokens: Tensor) -> Tensor:
        heads = []
        slices = tokens.chunk(len(self.q_mappings), dim=2)
        for x, q, k, v in zip(slices, self.q_mappings, self.k_mappings, self.v_mappings, strict=True):
            scores = q(x) @ k(x).transpose(1, 2) / x.shape[2] ** 0.5
            heads.append(scores.softmax(-1) @ v(x))
        return torch.cat(heads, dim=2)


# Values that a learned table of positions starts with.
POSITIONS: dict[str, Callable[[int, int], Tensor]] = {
    'normal_0.02': lambda *shape: 0.02 * torch.randn(shape),
    'normal_1': lambda *shape: torch.randn(shape),
    'uniform': lambda *shape: torch.rand(shape),
}


class ViTBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, activation: str):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.mhsa = HeadwiseAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width),
            ACTIVATIONS[activation](),
            nn.Linear(mlp_ratio * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mhsa(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Document 003."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: int = 6,
        heads: int = 8,
        width: int = 8,
        patch_size: int = 4,
        mlp_ratio: int = 4,
        position: str = 'cosine',
        position_init: str = 'normal_0.02',
        activation: str = 'relu',
    ):
        super().__init__()
        height, breadth, channels = image_shape
        self.patch_size = patch_size
        count = (height // patch_size) * (breadth // patch_size) + 1
        self.class_token = nn.Parameter(torch.rand(1, width))
        if position == 'learned':
            self.pos_embed = nn.Parameter(POSITIONS[position_init](count, width))
        else:
            self.register_buffer('pos_embed', cosine_positions(count, width), persistent=False)
        self.linear_mapper = nn.Linear(channels * patch_size**2, width)
        self.blocks = nn.ModuleList(ViTBlock(width, heads, mlp_ratio, activation) for _ in range(blocks))
        self.mlp = nn.Sequential(nn.Linear(width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
        tokens = self.linear_mapper(patches)
        x = torch.cat([self.class_token.expand(len(images), 1, -1), tokens], dim=1)
        x = x + self.pos_embed.to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.mlp(x[:, 0])


def cosine_positions(count: int, width: int) -> Tensor:
    """sin(p / 10000^(j/d)) in even columns j, cos(p / 10000^((j-1)/d)) in odd ones: [count, width]."""
    column = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(count, dtype=torch.float64)[:, None] / 10000 ** ((column - column % 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())
