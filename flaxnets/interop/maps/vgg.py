"""VGG16, by torchvision's keys (document 003)."""

from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.interop.layouts import CONV2D, LINEAR, Row, Variant, flattened, layer
from flaxnets.models.vgg import FULL

TIMM = {'pre_logits.fc1': 'classifier.0', 'pre_logits.fc2': 'classifier.3', 'head.fc': 'classifier.6'}


def convolutions(counts: Sequence[int]) -> dict[tuple[int, int], str]:
    """{(stage, convolution): its name}; activations, pooling and dropout are counted too."""
    names, position = {}, 0
    for stage, count in enumerate(counts):
        for i in range(count):
            names[stage, i] = f'features.{position}'
            position += 2
        position += 1
    return names


def rows(model: Any) -> Iterator[Row]:
    """torchvision's keys; those of the pruned model are numbered in the same way, without the convolution
    that it leaves out."""
    for (stage, i), name in convolutions([len(stage) for stage in model.stages]).items():
        yield from layer(name, f'stages/{stage}/{i}', CONV2D)
    yield from layer('classifier.0', 'fc1', flattened(model.features))
    yield from layer('classifier.3', 'fc2', LINEAR)
    yield from layer('classifier.6', 'fc3', LINEAR)


def variants(model: Any) -> Iterator[Variant]:
    """The whole network's keys for the pruned one, and timm's for both."""
    ours = convolutions([len(stage) for stage in model.stages])
    whole: dict[str, str | None] = {
        name: ours.get(place) for place, name in convolutions(FULL['convolutions']).items()
    }
    yield Variant("torchvision's VGG16", whole)
    yield Variant("timm's VGG16", {**whole, **TIMM})
