"""The profiled CNN (document 003)."""

from collections.abc import Iterator
from typing import Any

from flaxnets.interop.layouts import CONV2D, LINEAR, Row, batch_norm, flattened, layer


def rows(model: Any) -> Iterator[Row]:
    """PyTorch counts activations, pooling and dropout too."""
    position = 0
    for i in range(len(model.convs)):
        position += i in model.pooled
        yield from layer(f'conv_layers.{position}', f'convs/{i}', CONV2D)
        yield from batch_norm(f'conv_layers.{position + 1}', f'norms/{i}')
        position += 3
    yield from layer('fc_layers.1', 'fc1', flattened(model.features))
    yield from layer('fc_layers.4', 'fc2', LINEAR)
    yield from layer('fc_layers.6', 'fc3', LINEAR)
