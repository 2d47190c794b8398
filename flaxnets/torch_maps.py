"""Which PyTorch key is which NNX value, for every model: the tables behind `interop.py`.

A model's map is a generator of rows (PyTorch keys, NNX path, layout). A row with several PyTorch
keys stacks or concatenates them into one NNX value. `state_dicts.table(model)` shows the table, and
`python -m train.convert --table NAME` prints it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from flax import nnx

from flaxnets.errors import UserError


@dataclasses.dataclass(frozen=True)
class Layout:
    """A change of layout and its inverse. `to_flax` takes the arrays of a row's PyTorch keys,
    `to_torch` gives as many back."""

    name: str
    to_flax: Callable[[list[np.ndarray]], np.ndarray]
    to_torch: Callable[[np.ndarray, int], list[np.ndarray]]


def one(
    name: str, to_flax: Callable[[np.ndarray], np.ndarray], to_torch: Callable[[np.ndarray], np.ndarray]
) -> Layout:
    """A layout of one PyTorch key."""
    return Layout(name, lambda arrays: to_flax(arrays[0]), lambda value, _: [to_torch(value)])


def transposed(name: str, axes: tuple[int, ...]) -> Layout:
    """Flax's value is PyTorch's with its axes in the order `axes`."""
    back = tuple(int(i) for i in np.argsort(axes))
    return one(name, lambda x: x.transpose(axes), lambda x: x.transpose(back))


def concatenated(layout: Layout) -> Layout:
    """Each PyTorch array in its `layout`, side by side along Flax's last axis."""
    return Layout(
        f'{layout.name}, concatenated',
        lambda arrays: np.concatenate([layout.to_flax([x]) for x in arrays], axis=-1),
        lambda value, n: [layout.to_torch(part, 1)[0] for part in np.split(value, n, axis=-1)],
    )


def stacked(layout: Layout) -> Layout:
    """Each PyTorch array in its `layout`, along a new first axis."""
    return Layout(
        f'{layout.name}, stacked',
        lambda arrays: np.stack([layout.to_flax([x]) for x in arrays]),
        lambda value, n: [layout.to_torch(part, 1)[0] for part in value],
    )


SAME = one('same', lambda x: x, lambda x: x)
SHARED = Layout('one for all', lambda arrays: arrays[0], lambda value, n: [value] * n)
CONV2D = transposed('OIHW -> HWIO', (2, 3, 1, 0))
LINEAR = transposed('OI -> IO', (1, 0))


def flattened_linear(channels: int, height: int, width: int) -> Layout:
    """The linear layer after a flatten: PyTorch numbers its inputs c, h, w, Flax h, w, c."""
    size = channels * height * width

    def to_flax(weight: np.ndarray) -> np.ndarray:
        return weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(size, -1)

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(-1, size)

    return one('O(CHW) -> (HWC)O', to_flax, to_torch)


@dataclasses.dataclass(frozen=True)
class Row:
    """`torch`: the published keys; `flax`: the NNX path, joined by '/'."""

    torch: tuple[str, ...]
    flax: str
    layout: Layout


def layer(torch: str, flax: str, kernel: Layout, *, bias: bool = True) -> Iterator[Row]:
    """A convolution or linear layer: PyTorch's weight and bias, Flax's kernel and bias."""
    yield Row((f'{torch}.weight',), f'{flax}/kernel', kernel)
    if bias:
        yield Row((f'{torch}.bias',), f'{flax}/bias', SAME)


def layer_norm(torch: str, flax: str) -> Iterator[Row]:
    """A layer normalisation."""
    yield Row((f'{torch}.weight',), f'{flax}/scale', SAME)
    yield Row((f'{torch}.bias',), f'{flax}/bias', SAME)


def batch_norm(torch: str, flax: str) -> Iterator[Row]:
    """A batch normalisation with its running statistics."""
    yield from layer_norm(torch, flax)
    yield Row((f'{torch}.running_mean',), f'{flax}/mean', SAME)
    yield Row((f'{torch}.running_var',), f'{flax}/var', SAME)
    yield Row((f'{torch}.num_batches_tracked',), f'{flax}/num_batches_tracked', SHARED)


OI1 = one('OI1 -> IO', lambda x: x[:, :, 0].T, lambda x: x.T[:, :, None])
OIK = transposed('OIK -> KIO', (2, 1, 0))


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


def flattened(shape: tuple[int, int, int]) -> Layout:
    """The linear layer after flattening an image of `shape`, (height, width, channels)."""
    height, width, channels = shape
    return flattened_linear(channels, height, width)


def block_cnn(model: Any) -> Iterator[Row]:
    """Seed 001."""
    for name in ('conv1', 'conv2', 'conv3'):
        yield from layer(name, name, CONV2D)
    for i, block in enumerate(model.blocks):
        for conv, norm in (('conv1', 'bn1'), ('conv2', 'bn2')):
            yield from layer(f'blocks.{i}.{conv}', f'blocks/{i}/{conv}', CONV2D)
            if getattr(block, norm) is not None:
                yield from batch_norm(f'blocks.{i}.{norm}', f'blocks/{i}/{norm}')
    yield from layer('fc1', 'fc1', flattened(model.features))
    yield from layer('fc2', 'fc2', LINEAR, bias=False)


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


def joined(each: Sequence[Iterable[Row]], join: Callable[[Layout], Layout]) -> Iterator[Row]:
    """Rows of like layers as the rows of one."""
    for same in zip(*each, strict=True):
        layout = same[0].layout
        keys = tuple(row.torch[0] for row in same)
        yield Row(keys, same[0].flax, layout if layout is SHARED else join(layout))


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
IGNORED: dict[str, Callable[..., Iterator[str]]] = {'ConvNNStack': convnn_ignored}


def rows(model: nnx.Module) -> Iterator[Row]:
    """The model's map; a `UserError` if it has none."""
    name = type(model).__name__
    if name not in MAPS:
        raise UserError(
            f'there is no map between PyTorch and {name}; add a function that yields its rows as '
            f"flaxnets.torch_maps.MAPS['{name}']"
        )
    return MAPS[name](model)


def ignored(model: nnx.Module) -> Iterator[str]:
    """Published keys without a counterpart here."""
    return IGNORED.get(type(model).__name__, lambda _: iter(()))(model)
