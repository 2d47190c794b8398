"""The expert-branch CNN (document 002)."""

from collections.abc import Iterator
from typing import Any

from flaxnets.interop.layouts import CONV2D, LINEAR, Row, batch_norm, concatenated, joined, layer


def rows(model: Any) -> Iterator[Row]:
    """The branches of a block are concatenated in one value."""
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
