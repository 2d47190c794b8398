"""The published framework's layers in `torch.nn`, in the published formulation: all similarities at once, and
neighbours gathered from [B, C, T, K], a copy of the tokens for each rank. Options as in `flaxnets`."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mirrored(count: int, like: Tensor) -> Tensor:
    """From -1 to 1."""
    return torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device)


def scores_of(keys: Tensor, queries: Tensor, similarity: str) -> Tensor:
    """[B, C, T], [B, C, N] -> [B, T, N]: cosines, products or squared distances."""
    if similarity == 'cosine':
        return (F.normalize(keys, dim=1).transpose(1, 2) @ F.normalize(queries, dim=1)).clamp(-1, 1)
    products = keys.transpose(1, 2) @ queries
    if similarity == 'matmul':
        return products
    return (keys.square().sum(1)[:, :, None] + queries.square().sum(1)[:, None] - 2 * products).clamp(min=0)


def gathered(values: Tensor, nearest: Tensor) -> Tensor:
    """[B, C, N] and [B, T, K] -> [B, C, T, K]."""
    batch, channels, _ = values.shape
    neighbours = nearest.shape[2]
    copies = values[..., None].expand(-1, -1, -1, neighbours).contiguous()
    return copies.gather(2, nearest[:, None].expand(batch, channels, -1, neighbours))


class ConvNN2d(nn.Module):
    """[B, C_in, H, W] -> [B, C_out, H, W]."""

    def __init__(self, in_channels: int, out_channels: int, options: dict[str, Any]):
        super().__init__()
        self.options = options
        self.neighbours, self.scale = options['num_neighbors'], options['shuffle_scale']
        block = self.scale**2
        inner = in_channels * block + 2 * (options['aggregation'] == 'both')
        self.conv1d_layer = nn.Conv1d(inner, out_channels * block, self.neighbours, stride=self.neighbours)

    def draws(self, size: tuple[int, int]) -> int:
        """How many candidates are drawn on a map of this size, and from how many."""
        padding = self.options['padding']
        tokens = (size[0] // self.scale + 2 * padding) * (size[1] // self.scale + 2 * padding)
        drawn = self.options['num_samples']
        return drawn if self.options['sampling'] == 'random' and drawn <= tokens else 0

    def forward(self, images: Tensor, pool: Tensor | None = None) -> Tensor:
        options, padding = self.options, self.options['padding']
        images = F.pixel_unshuffle(images, self.scale)
        rows, columns = images.shape[2:]
        padded = F.pad(images, [padding] * 4)
        positions = located(padded)
        tokens = padded.flatten(2)
        values = torch.cat([tokens, positions], 1) if options['aggregation'] == 'both' else tokens
        real = torch.arange(tokens.shape[2], device=tokens.device).view(padded.shape[2:])
        real = real[padding : padding + rows, padding : padding + columns]
        side = options['num_samples']
        if options['sampling'] == 'grid' and side <= min(rows, columns):
            along = [torch.arange(side) * (n - 1) // max(side - 1, 1) for n in (rows, columns)]
            pool = real[along[0]][:, along[1]].flatten()
        elif not self.draws(images.shape[2:]) and options['sampling'] != 'all':
            pool = None
        nearest = self.nearest(tokens, positions, pool)[:, real.flatten()]
        y = self.conv1d_layer(gathered(values, nearest).flatten(2)).unflatten(2, (rows, columns))
        return F.pixel_shuffle(y, self.scale)

    def compared(self, tokens: Tensor, positions: Tensor) -> Tensor:
        if self.options['similarity_of'] == 'features':
            return tokens
        if self.options['similarity_of'] == 'position':
            return positions
        deviation = tokens.std((1, 2), keepdim=True)
        blend = self.options['blend']
        return torch.cat([blend * tokens / (deviation + 1e-6), (1 - blend) * positions], 1)

    @torch.no_grad()
    def nearest(self, tokens: Tensor, positions: Tensor, pool: Tensor | None) -> Tensor:
        """[B, T, K]: the numbers of all tokens' neighbours."""
        compared = self.compared(tokens, positions)
        similarity = self.options['similarity']
        sign = -1 if similarity == 'euclidean' else 1
        every = torch.arange(tokens.shape[2], device=tokens.device)
        scores = sign * scores_of(compared, compared if pool is None else compared[:, :, pool], similarity)
        if pool is None:
            scores[:, every, every] = math.inf
            found = scores.topk(self.neighbours, 2).indices
            return found.sort(2).values if self.options['similarity_of'] == 'position' else found
        scores[:, pool, torch.arange(len(pool))] = -math.inf
        others = pool[scores.topk(self.neighbours - 1, 2).indices]
        return torch.cat([every[None, :, None].expand(len(tokens), -1, -1), others], 2)


def located(padded: Tensor) -> Tensor:
    """[B, 2, T]: x and y from -1 to 1."""
    y, x = (mirrored(side, padded) for side in padded.shape[2:])
    grid = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1])
    return grid.flatten(1).expand(len(padded), -1, -1)


class ConvNN2dAttn(nn.Module):
    """The same with softmax weights, all tokens as candidates."""

    def __init__(self, in_channels: int, out_channels: int, options: dict[str, Any]):
        super().__init__()
        self.options = options
        self.neighbours, self.scale = options['num_neighbors'], options['shuffle_scale']
        block, k = self.scale**2, options['num_neighbors']
        inner, out = in_channels * block + 2 * (options['aggregation'] == 'both'), out_channels * block
        self.conv1d_layer = nn.Conv1d(inner, inner, k, stride=k, groups=inner)
        nn.init.ones_(self.conv1d_layer.weight)
        self.pointwise_conv = nn.Conv1d(inner, out, 1)
        self.w_q, self.w_k, self.w_v = (nn.Conv1d(inner, inner, 1, bias=False) for _ in range(3))
        self.w_o = nn.Conv1d(out, out, 1, bias=False)

    def draws(self, size: tuple[int, int]) -> int:
        return 0

    def forward(self, images: Tensor, pool: Tensor | None = None) -> Tensor:
        padding = self.options['padding']
        images = F.pixel_unshuffle(images, self.scale)
        rows, columns = images.shape[2:]
        padded = F.pad(images, [padding] * 4)
        tokens = padded.flatten(2)
        if self.options['aggregation'] == 'both':
            tokens = torch.cat([tokens, located(padded)], 1)
        euclidean = self.options['similarity'] == 'euclidean'
        scores = scores_of(self.w_k(tokens), self.w_q(tokens), self.options['similarity'])
        itself = torch.eye(tokens.shape[2], dtype=torch.bool, device=tokens.device)
        scores = scores.masked_fill(itself, -0.1 if euclidean else 1.1)
        best, nearest = scores.topk(self.neighbours, 2, largest=not euclidean)
        weights = (-best if euclidean else best).softmax(2)
        y = gathered(self.w_v(tokens), nearest) * weights[:, None]
        y = self.conv1d_layer(y.flatten(2)).unflatten(2, padded.shape[2:])
        y = y[:, :, padding : padding + rows, padding : padding + columns]
        y = self.w_o(self.pointwise_conv(y.flatten(2)))
        return F.pixel_shuffle(y.unflatten(2, (rows, columns)), self.scale)


class Branching2d(nn.Module):
    """A ConvNN layer beside a convolution."""

    def __init__(self, in_channels: int, out_channels: int, options: dict[str, Any], nearest: Any):
        super().__init__()
        width = int(options['ratio'] * out_channels)
        self.branch1 = nearest(in_channels, width, options) if width else None
        rest = out_channels - width
        self.branch2 = nn.Conv2d(in_channels, rest, 3, padding='same') if rest else None
        self.pointwise_conv = nn.Conv2d(out_channels, out_channels, 1)

    def draws(self, size: tuple[int, int]) -> int:
        return 0 if self.branch1 is None else self.branch1.draws(size)

    def forward(self, images: Tensor, pool: Tensor | None = None) -> Tensor:
        branches = [] if self.branch1 is None else [self.branch1(images, pool)]
        branches += [] if self.branch2 is None else [self.branch2(images)]
        return self.pointwise_conv(torch.cat(branches, 1))


def image_layer(in_channels: int, out_channels: int, options: dict[str, Any], *, bias: bool) -> nn.Module:
    """The layer that `options` names."""
    kind = options['layer']
    if kind == 'conv':
        return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
    nearest = ConvNN2dAttn if kind.endswith('attn') else ConvNN2d
    if kind.startswith('branching'):
        return Branching2d(in_channels, out_channels, options, nearest)
    return nearest(in_channels, out_channels, options)
