"""The documents' networks in `torch.nn`, under the published key names.

Twins of `flaxnets.create_model`: `create(name, **options)` takes the same names and options, and a
twin's state dict is what a user of the published code has, dead weights included. Written from the
specification and held to `tests/golden`, so that the tests can compare `flaxnets` with running PyTorch
code and the benchmark can race it. Nothing else imports this file.

Images are NCHW, logits [B, num_classes].
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train import torch_convnn

ACTIVATIONS: dict[str, type[nn.Module]] = {'relu': nn.ReLU, 'tanh': nn.Tanh, 'gelu': nn.GELU}


class ConvBlock(nn.Module):
    """(convolution, [batch normalisation], ReLU) twice."""

    def __init__(self, width: int, batch_norm: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.batch_norm = batch_norm
        if batch_norm:
            self.bn1 = nn.BatchNorm2d(width)
            self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = F.relu(self.bn1(x) if self.batch_norm else x)
        x = self.conv2(x)
        return F.relu(self.bn2(x) if self.batch_norm else x)


class BlockCNN(nn.Module):
    """Seed 001."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: int = 10,
        batch_norm: bool = False,
        width: int = 8,
        reduced: int = 4,
        hidden: int = 100,
    ):
        super().__init__()
        height, breadth, channels = image_shape
        self.conv1 = nn.Conv2d(channels, width, 5)
        self.conv2 = nn.Conv2d(width, width, 5, stride=2)
        self.blocks = nn.Sequential(*[ConvBlock(width, batch_norm) for _ in range(blocks)])
        self.conv3 = nn.Conv2d(width, reduced, 3, stride=2)
        rows, columns = (((side - 9) // 2 - 2) // 2 + 1 for side in (height, breadth))
        self.fc1 = nn.Linear(rows * columns * reduced, hidden)
        self.fc2 = nn.Linear(hidden, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv3(self.blocks(self.conv2(self.conv1(images))))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


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
    """Seed 002."""

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
    ):
        super().__init__()
        padding = kernel_size // 2
        self.stem = nn.Sequential(
            nn.Conv2d(image_shape[2], width, kernel_size, padding=padding), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            *[ExpertBlock(width, experts, reduction, kernel_size) for _ in range(blocks)]
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


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
    """Seed 003."""

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
        activation: str = 'relu',
    ):
        super().__init__()
        height, breadth, channels = image_shape
        self.patch_size = patch_size
        count = (height // patch_size) * (breadth // patch_size) + 1
        self.class_token = nn.Parameter(torch.rand(1, width))
        if position == 'learned':
            self.pos_embed = nn.Parameter(0.02 * torch.randn(count, width))
        else:
            self.register_buffer('pos_embed', cosine_positions(count, width), persistent=False)
        self.linear_mapper = nn.Linear(channels * patch_size**2, width)
        self.blocks = nn.ModuleList(ViTBlock(width, heads, mlp_ratio, activation) for _ in range(blocks))
        self.mlp = nn.Sequential(nn.Linear(width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
        tokens = self.linear_mapper(patches)
        x = torch.cat([self.class_token.expand(len(images), 1, -1), tokens], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.mlp(x[:, 0])


def cosine_positions(count: int, width: int) -> Tensor:
    """sin(p / 10000^(j/d)) in even columns j, cos(p / 10000^((j-1)/d)) in odd ones: [count, width]."""
    column = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(count, dtype=torch.float64)[:, None] / 10000 ** ((column - column % 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class ProfiledCNN(nn.Module):
    """Seed 003; pruned: without the first convolution."""

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


class VGG16(nn.Module):
    """torchvision's VGG16; pruned (seed 003): without the second convolution."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        pruned: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: Sequence[int] = (4096, 4096),
        dropout: Sequence[float] = (0.5, 0.5),
    ):
        super().__init__()
        channels = image_shape[2]
        layers: list[nn.Module] = []
        for width, count in zip(widths, (1 if pruned else 2, 2, 3, 3, 3), strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(49 * channels, hidden[0]),
            nn.ReLU(),
            nn.Dropout(dropout[0]),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Dropout(dropout[1]),
            nn.Linear(hidden[1], num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class MLP(nn.Module):
    """Seed 004."""

    def __init__(self, num_classes: int, image_shape: Sequence[int], *, hidden: int = 50):
        super().__init__()
        height, breadth, channels = image_shape
        self.hidden1 = nn.Linear(height * breadth * channels, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.hidden1(images.flatten(1)))
        return self.output(F.relu(self.hidden2(x)))


class MnistLayer(nn.Module):
    """One of the layers after each convolution: [x +] conv(ReLU([norm](x)))."""

    def __init__(self, width: int, skip: bool, batch_norm: bool, bare: bool):
        super().__init__()
        if batch_norm:
            self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.skip, self.batch_norm, self.bare = skip, batch_norm, bare

    def forward(self, x: Tensor) -> Tensor:
        if self.bare:
            return self.conv(x)
        y = self.conv(F.relu(self.norm(x) if self.batch_norm else x))
        return x + y if self.skip else y


class MnistCNN(nn.Module):
    """Seed 004: three convolutions, plain or with `residual` layers after each."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        widths: Sequence[int] = (8, 16, 32),
        order: str = 'act_pool',
        activation: str = 'relu',
        residual: int = 0,
        skip: bool = True,
        batch_norm: bool = False,
        oversight: bool = False,
    ):
        super().__init__()
        height, breadth, channels = image_shape
        for i, width in enumerate(widths, 1):
            setattr(self, f'conv{i}', nn.Conv2d(channels, width, 3, padding=1))
            bare = oversight and i == 2
            if residual:
                layers = (MnistLayer(width, skip, batch_norm, bare) for _ in range(residual))
                setattr(self, f'layer{i}', nn.Sequential(*layers))
            channels = width
        self.residual = residual
        act, pool = ACTIVATIONS[activation](), nn.MaxPool2d(2)
        self.act = act
        self.between = nn.Sequential(*(pool, act) if order == 'pool_act' else (act, pool))
        self.output = nn.Linear((height // 4) * (breadth // 4) * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if self.residual:
            x = F.max_pool2d(self.layer1(self.conv1(images)), 2)
            x = F.max_pool2d(self.layer2(self.conv2(x)), 2)
            x = F.relu(self.layer3(self.conv3(x)))
        else:
            x = self.between(self.conv2(self.between(self.conv1(images))))
            x = self.act(self.conv3(x))
        return self.output(x.flatten(1))


NETWORKS = {
    'block_cnn': BlockCNN,
    'expert_cnn': ExpertCNN,
    'vit': ViT,
    'profiled_cnn': ProfiledCNN,
    'vgg16': VGG16,
    'mlp': MLP,
    'mnist_cnn': MnistCNN,
}


def create(
    name: str, *, num_classes: int = 10, image_shape: Sequence[int] = (32, 32, 3), **options: Any
) -> nn.Module:
    """The twin of `flaxnets.create_model(name, ...)`, with PyTorch's default initial values."""
    if name in NETWORKS:
        return NETWORKS[name](num_classes, image_shape, **options)
    return torch_convnn.create(name, num_classes, image_shape, **options)
