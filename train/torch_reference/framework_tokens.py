"""The published framework's layers for tokens in `torch.nn`, in the published formulation; options as in
`flaxnets`. Tokens are [B, T, d]."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from train.torch_reference.framework_layers import gathered, mirrored, scores_of


def into_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, d] -> [B * heads, T, d / heads]."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)


def out_of_heads(x: Tensor, heads: int) -> Tensor:
    """Inverse of `into_heads`."""
    return x.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, tokens: int, options: dict[str, Any]):
        super().__init__()
        self.heads = options['heads']
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.dropout = nn.Dropout(options['dropout'])

    def forward(self, x: Tensor, pool: Tensor | None = None) -> Tensor:
        q, k, v = (into_heads(part(x), self.heads) for part in (self.W_q, self.W_k, self.W_v))
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).softmax(2)
        return self.W_o(out_of_heads(self.dropout(weights) @ v, self.heads))


class ConvNNAttention(Attention):
    """A convolution over each token's K best."""

    def __init__(self, width: int, tokens: int, options: dict[str, Any]):
        super().__init__(width, tokens, options)
        self.options, k = options, options['num_neighbors']
        channels = width // self.heads
        inner = channels + options['coordinates']
        depthwise = options['convolution'] != 'standard'
        groups = channels if depthwise else 1
        self.conv: nn.Module = nn.Conv1d(inner, channels, k, stride=k, groups=groups, bias=False)
        if depthwise:
            nn.init.ones_(self.conv.weight)
        if options['convolution'] == 'depthwise-separable':
            self.conv = nn.Sequential(self.conv, nn.Conv1d(channels, channels, 1, bias=False))

    def draws(self, tokens: int) -> int:
        drawn = self.options['num_samples']
        return drawn if self.options['sampling'] == 'random' and drawn <= tokens else 0

    def forward(self, x: Tensor, pool: Tensor | None = None) -> Tensor:
        heads, tokens = self.heads, x.shape[1]
        channels = x.shape[2] // heads
        q, k, v = (into_heads(part(x), heads).transpose(1, 2) for part in (self.W_q, self.W_k, self.W_v))
        if self.options['coordinates']:
            place = mirrored(tokens, x).expand(len(q), 1, -1)
            q, k, v = (torch.cat([part, place], 1) for part in (q, k, v))
        if self.options['sampling'] == 'grid' and self.options['num_samples'] <= tokens:
            count = self.options['num_samples']
            pool = torch.arange(count) * (tokens - 1) // max(count - 1, 1)
        weights, nearest = self.weights(q, k, pool, channels)
        y = self.conv((gathered(v, nearest) * weights[:, None]).flatten(2))
        y = y.transpose(1, 2)
        if self.options['oversight']:
            y = y.reshape(len(y), channels, tokens).transpose(1, 2)
        return self.W_o(self.dropout(out_of_heads(y, heads)))

    def weights(self, q: Tensor, k: Tensor, pool: Tensor | None, channels: int) -> tuple[Tensor, Tensor]:
        """Of each token's neighbours, and their numbers: [B, T, K] both."""
        similarity, count = self.options['similarity'], self.options['num_neighbors']
        distance = similarity == 'euclidean'
        scores = scores_of(k, q if pool is None else q[:, :, pool], similarity)
        if similarity == 'matmul':
            scores = scores / math.sqrt(channels)
        if distance:
            scores = scores.clamp(min=1e-24).sqrt()
        every = torch.arange(k.shape[2], device=k.device)
        if pool is not None:
            again = every[:, None] == pool
            scores = scores.masked_fill(again, 1.1 if distance else -0.1)
            count -= 1
        best, nearest = scores.topk(count, 2, largest=not distance)
        if pool is not None:
            best = torch.cat([torch.ones_like(best[:, :, :1]), best], 2)
            itself = every[None, :, None].expand(len(k), -1, -1)
            nearest = torch.cat([itself, pool[nearest]], 2)
        if self.options['softmax']:
            return (-best if distance else best).softmax(2), nearest
        return 1 / (best + 1e-8) if distance else best, nearest


class KNNAttention(nn.Module):
    """Attention to the K best keys."""

    def __init__(self, width: int, tokens: int, options: dict[str, Any]):
        super().__init__()
        self.heads, self.neighbours = options['heads'], options['num_neighbors']
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(options['dropout'])

    def forward(self, x: Tensor, pool: Tensor | None = None) -> Tensor:
        q, k, v = (into_heads(part, self.heads) for part in self.qkv(x).chunk(3, 2))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
        best = scores.topk(self.neighbours, 2).indices
        kept = torch.full_like(scores, -math.inf).scatter(2, best, scores.gather(2, best))
        return self.proj(out_of_heads(self.dropout(kept.softmax(2)) @ v, self.heads))


class HeadConv(nn.Module):
    """A convolution along the tokens, shared by the heads."""

    def __init__(self, width: int, options: dict[str, Any]):
        super().__init__()
        self.heads, self.oversight = options['heads'], options['oversight']
        channels = width // self.heads
        self.W_x, self.W_o = nn.Linear(width, width), nn.Linear(width, width)
        self.conv = nn.Conv1d(channels, channels, options['kernel_size'], padding='same')

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(into_heads(self.W_x(x), self.heads).transpose(1, 2)).transpose(1, 2)
        if self.oversight:
            y = y.reshape(len(y), y.shape[2], y.shape[1]).transpose(1, 2)
        return self.W_o(out_of_heads(y, self.heads))


class BranchConv(nn.Module):
    """ConvNN beside a convolution along the tokens."""

    def __init__(self, width: int, tokens: int, options: dict[str, Any]):
        super().__init__()
        self.share = int(options['ratio'] * width)
        self.convnn = ConvNNAttention(self.share, tokens, options) if self.share else None
        self.conv1d = HeadConv(width - self.share, options) if self.share < width else None
        self.pointwise_linear = nn.Linear(width, width)

    def draws(self, tokens: int) -> int:
        return 0 if self.convnn is None else self.convnn.draws(tokens)

    def forward(self, x: Tensor, pool: Tensor | None = None) -> Tensor:
        branches = [] if self.convnn is None else [self.convnn(x[:, :, : self.share], pool)]
        branches += [] if self.conv1d is None else [self.conv1d(x[:, :, self.share :])]
        return self.pointwise_linear(torch.cat(branches, 2))


TOKEN_LAYERS: dict[str, type[nn.Module]] = {
    'attention': Attention,
    'convnn_attention': ConvNNAttention,
    'knn_attention': KNNAttention,
    'branch_conv': BranchConv,
}
