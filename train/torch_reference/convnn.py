"""Document 000's networks in `torch.nn`, under the published key names: see `networks.py`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROJECTIONS = {'none': '', 'value': 'v', 'qkv': 'qkv'}


class NearestConv1d(nn.Module):
    """Convolution over each token's K nearest tokens, [B, C_in, T] -> [B, C_out, T].

    `kind`: where neighbours come from, 'all', 'random', 'spatial' or 'attn'.
    """

    # As the published code: neighbours are gathered from [B, C, T, K], a copy of the tokens for each rank.
    expanded = False

    def __init__(
        self, kind: str, in_channels: int, out_channels: int, grid: tuple[int, int], options: dict[str, Any]
    ):
        super().__init__()
        self.kind = kind
        self.grid = grid
        self.neighbours = options['num_neighbors']
        self.candidates = options['num_candidates']
        self.euclidean = options['similarity'] == 'euclidean'
        self.conv1d_layer = nn.Conv1d(in_channels, out_channels, self.neighbours, stride=self.neighbours)
        self.projection = PROJECTIONS[options['projection']]
        for letter in self.projection:
            tokens = math.prod(grid)
            setattr(self, f'w_{letter}', nn.Linear(tokens, tokens, bias=False))

    def project(self, letter: str, tokens: Tensor) -> Tensor:
        return getattr(self, f'w_{letter}')(tokens) if letter in self.projection else tokens

    def spatial_candidates(self, device: torch.device) -> Tensor:
        side = math.isqrt(self.candidates)
        rows, columns = (
            torch.linspace(0, size - 1, side, dtype=torch.float64).round().long() for size in self.grid
        )
        return (rows[:, None] * self.grid[1] + columns).flatten().to(device)

    def forward(self, tokens: Tensor, pool: Tensor | None) -> Tensor:
        batch, channels, count = tokens.shape
        if self.kind == 'spatial':
            pool = self.spatial_candidates(tokens.device)
        elif self.kind != 'all' and pool is None:
            pool = torch.randperm(count, device=tokens.device)[: self.candidates]
        queries, keys, values = (self.project(letter, tokens) for letter in 'qkv')

        with torch.no_grad():
            scores = self.scores(keys, queries if pool is None else queries[:, :, pool])
            if pool is None:
                nearest = scores.topk(self.neighbours, dim=2).indices
            else:
                if self.kind != 'spatial':
                    scores[:, pool, torch.arange(len(pool), device=pool.device)] = -math.inf
                nearest = pool[scores.topk(self.neighbours - 1, dim=2).indices]
                itself = torch.arange(count, device=pool.device)[None, :, None].expand(batch, -1, -1)
                nearest = torch.cat([itself, nearest], dim=2)
        if self.expanded:
            index = nearest[:, None].expand(-1, channels, -1, -1)
            copies = values[..., None].expand(-1, -1, -1, self.neighbours).contiguous()
            return self.conv1d_layer(copies.gather(2, index).flatten(2))
        index = nearest.flatten(1)[:, None].expand(-1, channels, -1)
        return self.conv1d_layer(values.gather(2, index))

    def scores(self, tokens: Tensor, candidates: Tensor) -> Tensor:
        """[B, C, T], [B, C, N] -> [B, T, N]: larger is nearer."""
        if self.euclidean:
            squares = tokens.square().sum(1)[:, :, None] + candidates.square().sum(1)[:, None]
            return -(squares - 2 * tokens.transpose(1, 2) @ candidates).clamp(min=0)
        cosine = F.normalize(tokens, dim=1).transpose(1, 2) @ F.normalize(candidates, dim=1)
        return cosine.clamp(min=0) if self.projection else cosine


class Attention1d(nn.Module):
    """1x1 convolution and multi-head self-attention, [B, C_in, T] -> [B, C_out, T]."""

    def __init__(self, in_channels: int, out_channels: int, num_heads: int):
        super().__init__()
        self.conv1x1 = nn.Conv1d(in_channels, out_channels, 1)
        self.multi_head_attention = nn.MultiheadAttention(out_channels, num_heads, batch_first=True)

    def forward(self, tokens: Tensor, pool: Tensor | None) -> Tensor:
        x = self.conv1x1(tokens).transpose(1, 2)
        return self.multi_head_attention(x, x, x, need_weights=False)[0].transpose(1, 2)


class TokenLayer(nn.Module):
    """A token layer between pixel-unshuffle and pixel-shuffle, with the published 1x1 convolution,
    which is never used without location channels."""

    def __init__(self, in_channels: int, out_channels: int, grid: tuple[int, int], options: dict[str, Any]):
        super().__init__()
        self.shuffle = options['shuffle']
        self.location_channels = options['location_channels']
        before, after = self.shuffle in {'both', 'before'}, self.shuffle in {'both', 'after'}
        extra = 2 if self.location_channels else 0
        inner_in = (in_channels + extra) * (4 if before else 1)
        inner_out = (out_channels + extra) * (4 if after else 1)
        if before:
            grid = (grid[0] // 2, grid[1] // 2)
        self.inner = self.add_inner(inner_in, inner_out, grid, options)
        self.pointwise_conv = nn.Conv2d(out_channels + 2, out_channels, 1)

    def add_inner(
        self, in_channels: int, out_channels: int, grid: tuple[int, int], options: dict[str, Any]
    ) -> str:
        kind = options['kind']
        if kind == 'attention':
            self.attention1d = Attention1d(in_channels, out_channels, options['num_heads'])
            return 'attention1d'
        name = 'Conv1d_NN_spatial' if kind == 'spatial' else 'Conv1d_NN'
        setattr(self, name, NearestConv1d(kind, in_channels, out_channels, grid, options))
        return name

    def forward(self, images: Tensor, pool: Tensor | None) -> Tensor:
        if self.location_channels:
            images = torch.cat([images, locations(images)], dim=1)
        if self.shuffle in {'both', 'before'}:
            images = F.pixel_unshuffle(images, 2)
        x = getattr(self, self.inner)(images.flatten(2), pool).unflatten(2, images.shape[2:])
        if self.shuffle in {'both', 'after'}:
            x = F.pixel_shuffle(x, 2)
        return self.pointwise_conv(x) if self.location_channels else x


def locations(images: Tensor) -> Tensor:
    """Every pixel's row and column, normalised to length 1: [B, 2, H, W]."""
    batch, _, height, width = images.shape
    rows, columns = (torch.arange(n, dtype=images.dtype, device=images.device) for n in (height, width))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing='ij'))
    return F.normalize(grid, dim=0).expand(batch, -1, -1, -1)


class Branching(nn.Module):
    """A convolution and a ConvNN layer side by side, mixed by a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, grid: tuple[int, int], options: dict[str, Any]):
        super().__init__()
        local, distant = options['channel_ratio'] or (out_channels, out_channels)
        if local:
            self.branch1 = nn.Sequential(nn.Conv2d(in_channels, local, 3, padding=1), nn.ReLU())
        if distant:
            self.branch2 = nn.Sequential(TokenLayer(in_channels, distant, grid, options), nn.ReLU())
        self.reduce_channels = nn.Conv2d(local + distant, out_channels, 1)

    def forward(self, images: Tensor, pool: Tensor | None) -> Tensor:
        branches = []
        if hasattr(self, 'branch1'):
            branches.append(self.branch1(images))
        if hasattr(self, 'branch2'):
            layer, relu = self.branch2
            branches.append(relu(layer(images, pool)))
        return self.reduce_channels(torch.cat(branches, dim=1))


class Stack(nn.Module):
    """`num_layers` times (layer, ReLU), then a linear head over the flattened map."""

    def __init__(
        self,
        layer: type[nn.Module] | None,
        num_classes: int,
        image_shape: Sequence[int],
        options: dict[str, Any],
    ):
        super().__init__()
        height, width, channels = image_shape
        layers: list[nn.Module] = []
        for _ in range(options['num_layers']):
            if layer is None:
                layers.append(nn.Conv2d(channels, options['width'], options['kernel_size'], padding='same'))
            else:
                layers.append(layer(channels, options['width'], (height, width), options))
            layers.append(nn.ReLU())
            channels = options['width']
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))

    def forward(self, images: Tensor, candidates: Sequence[Tensor] | None = None) -> Tensor:
        pools = iter(candidates or [])
        for layer in self.features:
            takes_pool = isinstance(layer, TokenLayer | Branching)
            images = layer(images, next(pools, None)) if takes_pool else layer(images)
        return self.classifier(images)


LAYERS: dict[str, type[nn.Module] | None] = {'cnn': None, 'convnn': TokenLayer, 'branching': Branching}
DEFAULTS = {
    'num_layers': 2,
    'width': 16,
    'num_neighbors': 9,
    'num_candidates': 64,
    'similarity': 'cosine',
    'projection': 'none',
    'location_channels': False,
    'shuffle': 'both',
    'num_heads': 1,
    'channel_ratio': None,
    'kernel_size': 3,
}


def create(name: str, num_classes: int, image_shape: Sequence[int], **options: Any) -> Stack:
    """`cnn`, `attention`, `convnn_KIND` or `branching_KIND`."""
    if name == 'attention':
        layer: type[nn.Module] | None = TokenLayer
        kind = 'attention'
    else:
        family, _, kind = name.partition('_')
        layer = LAYERS[family]
    unknown = options.keys() - DEFAULTS
    if unknown:
        raise TypeError(f'{name}: unknown options {sorted(unknown)}')
    implied = {'projection': 'qkv'} if kind == 'attn' else {}
    return Stack(layer, num_classes, image_shape, DEFAULTS | implied | options | {'kind': kind})
