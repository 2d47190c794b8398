"""The published framework (arXiv 2511.14137): its layers, and the models they are in."""

from collections.abc import Callable, Iterator
from typing import Any

from flaxnets.interop.layouts import (
    CONV2D,
    LINEAR,
    OI1,
    OIK,
    SAME,
    Row,
    batch_norm,
    flattened,
    layer,
    layer_norm,
    one,
    patch_kernel,
)

DEPTHWISE = one('C1K -> KC', lambda x: x[:, 0].T, lambda x: x.T[:, None])
CLASS_TOKEN = one('11C -> 1C', lambda x: x[0], lambda x: x[None])


def convnn2d(_: Any, torch: str, flax: str) -> Iterator[Row]:
    """The ConvNN layer for images."""
    yield from layer(f'{torch}.conv1d_layer', flax, OIK)


def convnn2d_attn(_: Any, torch: str, flax: str) -> Iterator[Row]:
    """The same with weights on the neighbours."""
    yield Row((f'{torch}.conv1d_layer.weight',), f'{flax}/depthwise', DEPTHWISE)
    yield Row((f'{torch}.conv1d_layer.bias',), f'{flax}/bias', SAME)
    yield from layer(f'{torch}.pointwise_conv', f'{flax}/pointwise', OI1)
    for key, name in {'w_q': 'query', 'w_k': 'key', 'w_v': 'value', 'w_o': 'out'}.items():
        yield from layer(f'{torch}.{key}', f'{flax}/{name}', OI1, bias=False)


def branching2d(branching: Any, torch: str, flax: str) -> Iterator[Row]:
    """A ConvNN layer beside a convolution; either may be missing."""
    if branching.nearest is not None:
        yield from any_layer(branching.nearest, f'{torch}.branch1', f'{flax}/nearest')
    if branching.conv is not None:
        yield from layer(f'{torch}.branch2', f'{flax}/conv', CONV2D)
    yield from layer(f'{torch}.pointwise_conv', f'{flax}/mix', CONV2D)


def convolution(conv: Any, torch: str, flax: str) -> Iterator[Row]:
    """A convolution, with or without bias."""
    yield from layer(torch, flax, CONV2D, bias=conv.bias is not None)


def attention(_: Any, torch: str, flax: str) -> Iterator[Row]:
    """Attention's four linear layers."""
    for key, name in {'W_q': 'query', 'W_k': 'key', 'W_v': 'value', 'W_o': 'out'}.items():
        yield from layer(f'{torch}.{key}', f'{flax}/{name}', LINEAR, bias=False)


def convnn_attention(mixer: Any, torch: str, flax: str) -> Iterator[Row]:
    """Those and the convolution over the neighbours."""
    yield from attention(mixer, torch, flax)
    if mixer.pointwise is not None:
        yield Row((f'{torch}.conv.0.weight',), f'{flax}/kernel', DEPTHWISE)
        yield from layer(f'{torch}.conv.1', f'{flax}/pointwise', OI1, bias=False)
    else:
        layout = OIK if mixer.kernel.ndim == 3 else DEPTHWISE
        yield Row((f'{torch}.conv.weight',), f'{flax}/kernel', layout)


def knn_attention(_: Any, torch: str, flax: str) -> Iterator[Row]:
    """k-NN attention."""
    yield from layer(f'{torch}.qkv', f'{flax}/qkv', LINEAR, bias=False)
    yield from layer(f'{torch}.proj', f'{flax}/out', LINEAR, bias=False)


def branch_conv(mixer: Any, torch: str, flax: str) -> Iterator[Row]:
    """ConvNN beside a convolution along the tokens; either may be missing."""
    if mixer.nearest is not None:
        yield from convnn_attention(mixer.nearest, f'{torch}.convnn', f'{flax}/nearest')
    if mixer.conv is not None:
        yield from layer(f'{torch}.conv1d.W_x', f'{flax}/conv/embed', LINEAR)
        yield from layer(f'{torch}.conv1d.W_o', f'{flax}/conv/out', LINEAR)
        yield from layer(f'{torch}.conv1d.conv', f'{flax}/conv/conv', OIK)
    yield from layer(f'{torch}.pointwise_linear', f'{flax}/mix', LINEAR)


# Layer class name -> its rows.
LAYERS: dict[str, Callable[[Any, str, str], Iterator[Row]]] = {
    'Conv': convolution,
    'ConvNN2d': convnn2d,
    'ConvNN2dAttn': convnn2d_attn,
    'Branching2d': branching2d,
    'Attention': attention,
    'ConvNNAttention': convnn_attention,
    'KNNAttention': knn_attention,
    'BranchConv': branch_conv,
}


def any_layer(made: Any, torch: str, flax: str) -> Iterator[Row]:
    """Any of the framework's layers."""
    yield from LAYERS[type(made).__name__](made, torch, flax)


def vit(model: Any) -> Iterator[Row]:
    """The vision transformer; PyTorch counts the MLPs' activation and dropout too."""
    yield from layer(
        'patch_embedding.linear_projection', 'embed', patch_kernel(model.image_shape[-1], model.patch_size)
    )
    yield from layer_norm('patch_embedding.norm', 'norm')
    yield Row(('positional_encoding.cls_tokens',), 'class_token', CLASS_TOKEN)
    for i, block in enumerate(model.blocks):
        torch, flax = f'transformer_encoder.{i}', f'blocks/{i}'
        yield from any_layer(block.attention, f'{torch}.attention', f'{flax}/attention')
        for name in ('norm1', 'norm2'):
            yield from layer_norm(f'{torch}.{name}', f'{flax}/{name}')
        yield from layer(f'{torch}.mlp.0', f'{flax}/fc1', LINEAR)
        yield from layer(f'{torch}.mlp.3', f'{flax}/fc2', LINEAR)
    yield from layer('classifier', 'head', LINEAR)


def vgg(model: Any) -> Iterator[Row]:
    """A VGG, by torchvision's keys for the one with BatchNorm: ReLU, pooling and dropout are counted too."""
    position, place = 0, 0
    for count in model.counts:
        for _ in range(count):
            yield from any_layer(model.layers[place], f'features.{position}', f'layers/{place}')
            yield from batch_norm(f'features.{position + 1}', f'norms/{place}')
            position, place = position + 3, place + 1
        position += 1
    yield from layer('classifier.0', 'fc1', flattened(model.features))
    yield from layer('classifier.3', 'fc2', LINEAR)
    yield from layer('classifier.6', 'fc3', LINEAR)


def resnet(model: Any) -> Iterator[Row]:
    """A ResNet, by torchvision's keys; the shortcut of the framework's form has no BatchNorm."""
    yield from convolution(model.stem, 'conv1', 'stem')
    yield from batch_norm('bn1', 'norm')
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage):
            torch, flax = f'layer{i + 1}.{j}', f'stages/{i}/{j}'
            for k, each in ((1, block.layer1), (2, block.layer2)):
                yield from any_layer(each, f'{torch}.conv{k}', f'{flax}/layer{k}')
                yield from batch_norm(f'{torch}.bn{k}', f'{flax}/norm{k}')
            if block.shortcut is not None:
                yield from convolution(block.shortcut, f'{torch}.downsample.0', f'{flax}/shortcut')
            if block.shortcut_norm is not None:
                yield from batch_norm(f'{torch}.downsample.1', f'{flax}/shortcut_norm')
    yield from layer('fc', 'head', LINEAR)
