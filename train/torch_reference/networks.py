"""The documents' networks in `torch.nn`, under the published key names.

Twins of `flaxnets.create_model`: `create(name, **options)` takes the same names and options, and a
twin's state dict is what a user of the published code has, with the weights that it never uses. Written from
the specification and checked with `tests/golden`, so that tests and benchmarks can compare `flaxnets` with
PyTorch code that runs. Nothing else imports this file.

Images are NCHW, logits [B, num_classes].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.torch_reference import convnn, framework

ACTIVATIONS: dict[str, type[nn.Module]] = {'relu': nn.ReLU, 'tanh': nn.Tanh, 'gelu': nn.GELU}


class ConvBlock(nn.Module):
    """(convolution, [batch normalisation], ReLU) twice; with `oversight` the second acts on the input."""

    def __init__(self, width: int, batch_norm: bool, oversight: bool):
        super().__init__()
        self.oversight = oversight
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.batch_norm = batch_norm
        if batch_norm:
            self.bn1 = nn.BatchNorm2d(width)
            self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        if not self.oversight:
            x = self.conv1(x)
            x = F.relu(self.bn1(x) if self.batch_norm else x)
        x = self.conv2(x)
        return F.relu(self.bn2(x) if self.batch_norm else x)


class BlockCNN(nn.Module):
    """Document 001."""

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        blocks: int = 10,
        batch_norm: bool = False,
        oversight: bool = False,
        width: int = 8,
        head_width: int = 4,
        hidden: int = 100,
    ):
        super().__init__()
        height, breadth, channels = image_shape
        self.conv1 = nn.Conv2d(channels, width, 5)
        self.conv2 = nn.Conv2d(width, width, 5, stride=2)
        self.blocks = nn.Sequential(*[ConvBlock(width, batch_norm, oversight) for _ in range(blocks)])
        self.conv3 = nn.Conv2d(width, head_width, 3, stride=2)
        rows, columns = (((side - 9) // 2 - 2) // 2 + 1 for side in (height, breadth))
        self.fc1 = nn.Linear(rows * columns * head_width, hidden)
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


class MLP(nn.Module):
    """Document 004."""

    def __init__(self, num_classes: int, image_shape: Sequence[int], *, hidden: Sequence[int] = (50, 50)):
        super().__init__()
        height, breadth, channels = image_shape
        self.hidden1 = nn.Linear(height * breadth * channels, hidden[0])
        self.hidden2 = nn.Linear(hidden[0], hidden[1])
        self.output = nn.Linear(hidden[1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.hidden1(images.flatten(1)))
        return self.output(F.relu(self.hidden2(x)))


class MnistLayer(nn.Module):
    """One of the layers after each convolution: [x +] conv(act([norm](x)))."""

    def __init__(self, width: int, act: nn.Module, skip: bool, batch_norm: bool):
        super().__init__()
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.act = act
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.act(self.norm(x)))
        return x + y if self.skip else y


class MnistCNN(nn.Module):
    """Document 004: convolutions with pooling between them, plain or with `residual` layers after each."""

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
        self.act = ACTIVATIONS[activation]()
        self.stages = len(widths)
        for i, width in enumerate(widths, 1):
            setattr(self, f'conv{i}', nn.Conv2d(channels, width, 3, padding=1))
            act = nn.Identity() if oversight and i == 2 else self.act
            if residual:
                layers = [MnistLayer(width, act, skip, batch_norm) for _ in range(residual)]
                setattr(self, f'layer{i}', nn.Sequential(*layers))
            channels = width
        pool = nn.MaxPool2d(2)
        between = [pool] if residual else [pool, self.act] if order == 'pool_act' else [self.act, pool]
        self.between = nn.Sequential(*between)
        halved = 2 ** (len(widths) - 1)
        self.output = nn.Linear((height // halved) * (breadth // halved) * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for i in range(1, self.stages + 1):
            x = getattr(self, f'conv{i}')(x if i == 1 else self.between(x))
            if hasattr(self, f'layer{i}'):
                x = getattr(self, f'layer{i}')(x)
        return self.output(self.act(x).flatten(1))


VGGS = {
    'vgg11': (1, 1, 2, 2, 2),
    'vgg13': (2, 2, 2, 2, 2),
    'vgg16_bn': (2, 2, 3, 3, 3),
    'vgg19': (2, 2, 4, 4, 4),
}
RESNETS = {'resnet18': (2, 2, 2, 2), 'resnet34': (3, 4, 6, 3)}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    'block_cnn': BlockCNN,
    'expert_cnn': ExpertCNN,
    'vit': ViT,
    'profiled_cnn': ProfiledCNN,
    'vgg16': VGG16,
    'mlp': MLP,
    'mnist_cnn': MnistCNN,
    'vit_tiny': framework.ViT,
    **{name: functools.partial(framework.VGG, convolutions=counts) for name, counts in VGGS.items()},
    **{name: functools.partial(framework.ResNet, blocks=counts) for name, counts in RESNETS.items()},
}


def create(
    name: str, *, num_classes: int = 10, image_shape: Sequence[int] = (32, 32, 3), **options: Any
) -> nn.Module:
    """The twin of `flaxnets.create_model(name, ...)`, with PyTorch's default initial values.

    Classes and image shape have one default for all, 10 and CIFAR's.
    """
    if name in NETWORKS:
        return NETWORKS[name](num_classes, image_shape, **options)
    return convnn.create(name, num_classes, image_shape, **options)
