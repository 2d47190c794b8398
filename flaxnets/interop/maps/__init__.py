"""Which PyTorch key is which NNX value, for every model: the tables behind `flaxnets.interop`.

A model's map has a function that yields its rows (PyTorch keys, NNX path, layout). A row with several
PyTorch keys stacks or concatenates them into one NNX value. The files have the names of the models' files,
and an entry of `registry.py` names the map of its model. `conversion.table(model)` shows the table, and
`python -m train.convert --table NAME` prints it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from flaxnets.interop.layouts import SAME, Row, Variant
from flaxnets.interop.maps import block_cnn, convnn, expert_cnn, framework, mnist, profiled_cnn, vgg, vit

__all__ = ['SAME', 'Row', 'TorchMap', 'Variant']


def _nothing(_: Any) -> Iterator[Any]:
    return iter(())


@dataclasses.dataclass(frozen=True)
class TorchMap:
    """The map of a kind of model.

    Attributes:
        rows: the model to its rows.
        ignored: the model to the keys of a published checkpoint that no output depends on, and their shapes:
            they are accepted and left out, and written as zeros.
        variants: the model to the keys that other code gives the same values.
    """

    rows: Callable[[Any], Iterator[Row]]
    ignored: Callable[[Any], Iterator[tuple[str, tuple[int, ...]]]] = _nothing
    variants: Callable[[Any], Iterator[Variant]] = _nothing


CONVNN = TorchMap(convnn.rows, convnn.ignored)
BLOCK_CNN = TorchMap(block_cnn.rows, block_cnn.ignored)
EXPERT_CNN = TorchMap(expert_cnn.rows)
VIT = TorchMap(vit.rows)
PROFILED_CNN = TorchMap(profiled_cnn.rows)
VGG16 = TorchMap(vgg.rows, variants=vgg.variants)
MLP = TorchMap(mnist.mlp)
MNIST_CNN = TorchMap(mnist.mnist_cnn)
FRAMEWORK_VIT = TorchMap(framework.vit)
FRAMEWORK_VGG = TorchMap(framework.vgg)
FRAMEWORK_RESNET = TorchMap(framework.resnet)
