"""The ConvNN family (document 000)."""

from collections.abc import Callable, Iterator
from typing import Any

from flaxnets.errors import NoTorchMap
from flaxnets.interop.layouts import CONV2D, LINEAR, OI1, OIK, SAME, Row, flattened_linear, layer
from flaxnets.layers.candidates import GridTokens


def image_tokens(image: Any, torch: str, flax: str) -> Iterator[Row]:
    """The 1x1 convolution after a layer with location channels."""
    if image.location_channels:
        yield from layer(f'{torch}.pointwise_conv', f'{flax}/image/pointwise', CONV2D)


def nearest_layer(nearest: Any, torch: str, flax: str) -> Iterator[Row]:
    """A ConvNN layer; its weights across tokens have no bias."""
    grid = isinstance(nearest.options.pool, GridTokens)
    inner = f'{torch}.Conv1d_NN_spatial' if grid else f'{torch}.Conv1d_NN'
    yield from layer(f'{inner}.conv1d_layer', flax, OIK)
    for key, name in {'w_q': 'query', 'w_k': 'key', 'w_v': 'value'}.items():
        if hasattr(nearest, name):
            yield from layer(f'{inner}.{key}', f'{flax}/{name}', LINEAR, bias=False)
    yield from image_tokens(nearest.image, torch, flax)


def attention_layer(attention: Any, torch: str, flax: str) -> Iterator[Row]:
    """An attention layer."""
    inner = f'{torch}.attention1d'
    yield from layer(f'{inner}.conv1x1', f'{flax}/embed', OI1)
    yield Row((f'{inner}.multi_head_attention.in_proj_weight',), f'{flax}/attention/qkv/kernel', LINEAR)
    yield Row((f'{inner}.multi_head_attention.in_proj_bias',), f'{flax}/attention/qkv/bias', SAME)
    yield from layer(f'{inner}.multi_head_attention.out_proj', f'{flax}/attention/out', LINEAR)
    yield from image_tokens(attention.image, torch, flax)


def branching_layer(branching: Any, torch: str, flax: str) -> Iterator[Row]:
    """A branching layer, without the branches of width 0."""
    if branching.conv is not None:
        yield from layer(f'{torch}.branch1.0', f'{flax}/conv', CONV2D)
    if branching.nearest is not None:
        yield from nearest_layer(branching.nearest, f'{torch}.branch2.0', f'{flax}/nearest')
    yield from layer(f'{torch}.reduce_channels', f'{flax}/reduce', CONV2D)


def convolution(_: Any, torch: str, flax: str) -> Iterator[Row]:
    """A convolution."""
    yield from layer(torch, flax, CONV2D)


# Layer class name -> its rows, for the ConvNN family's stack.
LAYERS: dict[str, Callable[[Any, str, str], Iterator[Row]]] = {
    'Conv': convolution,
    'AttentionLayer': attention_layer,
    'NearestLayer': nearest_layer,
    'BranchingLayer': branching_layer,
}


def rows(model: Any) -> Iterator[Row]:
    """The ConvNN family; PyTorch counts the activations between the layers too."""
    for i, each in enumerate(model.layers):
        kind = type(each).__name__
        if kind not in LAYERS:
            raise NoTorchMap(
                f'the layer {kind} has no PyTorch map; give one, a function that yields its rows as '
                f"flaxnets.interop.maps.convnn.LAYERS['{kind}'], or export by our own names, to .safetensors"
            )
        yield from LAYERS[kind](each, f'features.{2 * i}', f'layers/{i}')
    height, width, _ = model.image_shape
    yield from layer('classifier.1', 'head', flattened_linear(model.width, height, width))


def ignored(model: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The 1x1 convolutions of layers without location channels."""
    for i, each in enumerate(model.layers):
        branch: Any = getattr(each, 'nearest', None)
        for torch, part in ((f'features.{2 * i}', each), (f'features.{2 * i}.branch2.0', branch)):
            if hasattr(part, 'image') and not part.image.location_channels:
                width = part.image.out_features
                yield f'{torch}.pointwise_conv.weight', (width, width + 2, 1, 1)
                yield f'{torch}.pointwise_conv.bias', (width,)
