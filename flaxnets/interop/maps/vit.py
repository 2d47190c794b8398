"""The vision transformer (document 003)."""

from collections.abc import Iterator
from typing import Any

from flaxnets.interop.layouts import LINEAR, SAME, Row, flattened_linear, joined, layer, layer_norm, stacked


def rows(model: Any) -> Iterator[Row]:
    """The linear layers of the heads are stacked."""
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
