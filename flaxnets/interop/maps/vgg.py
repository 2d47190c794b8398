"""VGG16, by torchvision's keys (document 003)."""

from collections.abc import Iterator
from typing import Any

from flaxnets.interop.layouts import CONV2D, LINEAR, Row, flattened, layer


def rows(model: Any) -> Iterator[Row]:
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
