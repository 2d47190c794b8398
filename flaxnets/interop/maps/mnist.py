"""The networks for MNIST (document 004)."""

from collections.abc import Iterator
from typing import Any

from flaxnets.interop.layouts import CONV2D, LINEAR, Row, batch_norm, flattened, layer


def mlp(model: Any) -> Iterator[Row]:
    """The multilayer perceptron."""
    for i in range(len(model.hidden)):
        kernel = LINEAR if i else flattened(model.image_shape)
        yield from layer(f'hidden{i + 1}', f'hidden/{i}', kernel)
    yield from layer('output', 'output', LINEAR)


def mnist_cnn(model: Any) -> Iterator[Row]:
    """The CNN."""
    for i, extra in enumerate(model.extra):
        yield from layer(f'conv{i + 1}', f'convs/{i}', CONV2D)
        for j, each in enumerate(extra):
            torch, flax = f'layer{i + 1}.{j}', f'extra/{i}/{j}'
            yield from layer(f'{torch}.conv', f'{flax}/conv', CONV2D)
            if each.norm is not None:
                yield from batch_norm(f'{torch}.norm', f'{flax}/norm')
    yield from layer('output', 'output', flattened(model.features))
