"""Which PyTorch key is which NNX value, for every model: the tables behind `flaxnets.interop`.

A model's map is a generator of rows (PyTorch keys, NNX path, layout). A row with several PyTorch
keys stacks or concatenates them into one NNX value. `state_dicts.table(model)` shows the table, and
`python -m train.convert --table NAME` prints it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from flaxnets.errors import UserError
from flaxnets.interop.layouts import (
    CONV2D,
    LINEAR,
    OI1,
    OIK,
    SAME,
    Row,
    batch_norm,
    concatenated,
    flattened,
    flattened_linear,
    joined,
    layer,
    layer_norm,
    stacked,
)


def image_tokens(image: Any, torch: str, flax: str) -> Iterator[Row]:
    """The 1x1 convolution after a layer with location channels."""
    if image.location_channels:
        yield from layer(f'{torch}.pointwise_conv', f'{flax}/image/pointwise', CONV2D)


def nearest_layer(nearest: Any, torch: str, flax: str) -> Iterator[Row]:
    """A ConvNN layer; its weights across tokens have no bias."""
    inner = f'{torch}.Conv1d_NN_spatial' if nearest.pool == 'spatial' else f'{torch}.Conv1d_NN'
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


def convnn_stack(model: Any) -> Iterator[Row]:
    """The ConvNN family; PyTorch counts the activations between the layers too."""
    for i, each in enumerate(model.layers):
        yield from LAYERS[type(each).__name__](each, f'features.{2 * i}', f'layers/{i}')
    height, width, _ = model.image_shape
    yield from layer('classifier.1', 'head', flattened_linear(model.width, height, width))


def convnn_ignored(model: Any) -> Iterator[str]:
    """The 1x1 convolutions of layers without location channels."""
    for i, each in enumerate(model.layers):
        branch: Any = getattr(each, 'nearest', None)
        for torch, part in ((f'features.{2 * i}', each), (f'features.{2 * i}.branch2.0', branch)):
            if hasattr(part, 'image') and not part.image.location_channels:
                yield from (f'{torch}.pointwise_conv.weight', f'{torch}.pointwise_conv.bias')


def block_cnn(model: Any) -> Iterator[Row]:
    """Seed 001."""
    for name in ('conv1', 'conv2', 'conv3'):
        yield from layer(name, name, CONV2D)
    for i, block in enumerate(model.blocks):
        for conv, norm in (('conv1', 'bn1'), ('conv2', 'bn2')):
            if getattr(block, conv) is not None:
                yield from layer(f'blocks.{i}.{conv}', f'blocks/{i}/{conv}', CONV2D)
            if getattr(block, norm) is not None:
                yield from batch_norm(f'blocks.{i}.{norm}', f'blocks/{i}/{norm}')
    yield from layer('fc1', 'fc1', flattened(model.features))
    yield from layer('fc2', 'fc2', LINEAR, bias=False)


def block_cnn_ignored(model: Any) -> Iterator[str]:
    """The first halves of blocks that leave them out."""
    for i, block in enumerate(model.blocks):
        if block.conv1 is None:
            dead = list(layer(f'blocks.{i}.conv1', '', CONV2D))
            if block.bn2 is not None:
                dead += batch_norm(f'blocks.{i}.bn1', '')
            yield from (key for row in dead for key in row.torch)


def expert_cnn(model: Any) -> Iterator[Row]:
    """Seed 002; the branches of a block lie side by side in one value."""
    yield from layer('stem.0', 'stem', CONV2D)
    yield from batch_norm('stem.1', 'stem_norm')
    for i, block in enumerate(model.blocks):
        yield from layer(f'blocks.{i}.squeeze', f'blocks/{i}/gate/squeeze', LINEAR)
        yield from layer(f'blocks.{i}.excite', f'blocks/{i}/gate/excite', LINEAR)
        experts = range(block.experts)
        convs = [layer(f'blocks.{i}.convs.{k}.0', f'blocks/{i}/conv', CONV2D) for k in experts]
        norms = [batch_norm(f'blocks.{i}.convs.{k}.1', f'blocks/{i}/norm') for k in experts]
        yield from joined(convs, concatenated)
        yield from joined(norms, concatenated)
    yield from layer('head', 'head', LINEAR)


def vit(model: Any) -> Iterator[Row]:
    """Seed 003; the heads' maps are stacked."""
    yield Row(('class_token',), 'class_token', SAME)
    if model.positions is not None:
        yield Row(('pos_embed',), 'positions', SAME)
    patch = flattened_linear(model.image_shape[-1], model.patch_size, model.patch_size)
    yield from layer('linear_mapper', 'embed', patch)
    for i, block in enumerate(model.blocks):
        torch, flax = f'blocks.{i}', f'blocks/{i}'
        for name in ('norm1', 'norm2'):
            yield from layer_norm(f'{torch}.{name}', f'{flax}/{name}')
        for name in ('query', 'key', 'value'):
            maps = [f'{torch}.mhsa.{name[0]}_mappings.{h}' for h in range(block.attention.heads)]
            yield from joined([layer(key, f'{flax}/attention/{name}', LINEAR) for key in maps], stacked)
        yield from layer(f'{torch}.mlp.0', f'{flax}/fc1', LINEAR)
        yield from layer(f'{torch}.mlp.2', f'{flax}/fc2', LINEAR)
    yield from layer('mlp.0', 'head', LINEAR)


def profiled_cnn(model: Any) -> Iterator[Row]:
    """Seed 003; PyTorch counts activations, pooling and dropout too."""
    position = 0
    for i in range(len(model.convs)):
        position += i in model.pooled
        yield from layer(f'conv_layers.{position}', f'convs/{i}', CONV2D)
        yield from batch_norm(f'conv_layers.{position + 1}', f'norms/{i}')
        position += 3
    yield from layer('fc_layers.1', 'fc1', flattened(model.features))
    yield from layer('fc_layers.4', 'fc2', LINEAR)
    yield from layer('fc_layers.6', 'fc3', LINEAR)


def vgg16(model: Any) -> Iterator[Row]:
    """torchvision's keys; it counts activations, pooling and dropout too."""
    position = 0
    for i, stage in enumerate(model.stages):
        for j in range(len(stage)):
            yield from layer(f'features.{position}', f'stages/{i}/{j}', CONV2D)
            position += 2
        position += 1
    yield from layer('classifier.0', 'fc1', flattened(model.features))
    yield from layer('classifier.3', 'fc2', LINEAR)
    yield from layer('classifier.6', 'fc3', LINEAR)


def mlp(model: Any) -> Iterator[Row]:
    """Seed 004."""
    for i in range(len(model.hidden)):
        kernel = LINEAR if i else flattened(model.image_shape)
        yield from layer(f'hidden{i + 1}', f'hidden/{i}', kernel)
    yield from layer('output', 'output', LINEAR)


def mnist_cnn(model: Any) -> Iterator[Row]:
    """Seed 004."""
    for i, extra in enumerate(model.extra):
        yield from layer(f'conv{i + 1}', f'convs/{i}', CONV2D)
        for j, each in enumerate(extra):
            torch, flax = f'layer{i + 1}.{j}', f'extra/{i}/{j}'
            yield from layer(f'{torch}.conv', f'{flax}/conv', CONV2D)
            if each.norm is not None:
                yield from batch_norm(f'{torch}.norm', f'{flax}/norm')
    yield from layer('output', 'output', flattened(model.features))


# Model class name -> its rows.
MAPS: dict[str, Callable[..., Iterator[Row]]] = {
    'ConvNNStack': convnn_stack,
    'BlockCNN': block_cnn,
    'ExpertCNN': expert_cnn,
    'ViT': vit,
    'ProfiledCNN': profiled_cnn,
    'VGG16': vgg16,
    'MLP': mlp,
    'MNISTCNN': mnist_cnn,
}
# Model class name -> keys of the published checkpoint that no input reaches: accepted and ignored.
IGNORED: dict[str, Callable[..., Iterator[str]]] = {
    'ConvNNStack': convnn_ignored,
    'BlockCNN': block_cnn_ignored,
}


def rows(model: nnx.Module) -> Iterator[Row]:
    """The model's map; a `UserError` if it has none."""
    name = type(model).__name__
    if name not in MAPS:
        raise UserError(
            f'there is no map between PyTorch and {name}; add a function that yields its rows as '
            f"flaxnets.interop.maps.MAPS['{name}']"
        )
    return MAPS[name](model)


def ignored(model: nnx.Module) -> Iterator[str]:
    """Published keys without a counterpart here."""
    return IGNORED.get(type(model).__name__, lambda _: iter(()))(model)
