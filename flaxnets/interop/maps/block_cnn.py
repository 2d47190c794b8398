"""The block CNN (document 001)."""

from collections.abc import Iterator
from typing import Any

from flaxnets.interop.layouts import CONV2D, LINEAR, SHARED, Row, batch_norm, flattened, layer


def rows(model: Any) -> Iterator[Row]:
    """The convolutions and norms there are."""
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


def ignored(model: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The first halves of blocks that leave them out: their shapes are those of the second halves."""
    for i, block in enumerate(model.blocks):
        if block.conv1 is not None:
            continue
        width = block.conv2.kernel.shape[-1]
        kernel, *rest = layer(f'blocks.{i}.conv1', '', CONV2D)
        if block.bn2 is not None:
            rest += batch_norm(f'blocks.{i}.bn1', '')
        yield kernel.torch[0], (width, width, 3, 3)
        for row in rest:
            yield row.torch[0], () if row.layout is SHARED else (width,)
