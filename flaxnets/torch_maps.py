"""Which PyTorch key is which NNX value, for every model: the tables behind `interop.py`.

A model's map is a generator of rows (PyTorch keys, NNX path, layout). A row with several PyTorch
keys stacks or concatenates them into one NNX value. `print_map(model)` shows the table.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from flax import nnx


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
    # The number of axes is checked by the shape comparison in `from_torch`.
    return one(
        name,
        lambda x: x.transpose(axes) if x.ndim == len(axes) else x,
        lambda x: x.transpose(back),
    )


SAME = one('same', lambda x: x, lambda x: x)
CONV2D = transposed('OIHW -> HWIO', (2, 3, 1, 0))
LINEAR = transposed('OI -> IO', (1, 0))


def flattened_linear(channels: int, height: int, width: int) -> Layout:
    """The linear layer after a flatten: PyTorch numbers its inputs c, h, w, Flax h, w, c."""
    size = channels * height * width

    def to_flax(weight: np.ndarray) -> np.ndarray:
        if weight.ndim != 2 or weight.shape[1] != size:
            return weight  # `from_torch` reports the shape
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
    yield Row((f'{torch}.num_batches_tracked',), f'{flax}/num_batches_tracked', SAME)


# Model class name -> its rows; filled below, family by family.
MAPS: dict[str, Callable[..., Iterator[Row]]] = {}
# Model class name -> keys of the published checkpoint that no input reaches: accepted and ignored.
IGNORED: dict[str, Callable[..., Iterator[str]]] = {}


def rows(model: nnx.Module) -> Iterator[Row]:
    """The model's map."""
    return MAPS[type(model).__name__](model)


def ignored(model: nnx.Module) -> Iterator[str]:
    """Published keys without a counterpart here."""
    return IGNORED.get(type(model).__name__, lambda _: iter(()))(model)
