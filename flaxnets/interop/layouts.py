"""How PyTorch and Flax lay out the same values, and the rows of a map between them (`maps/`)."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np


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
OI1 = one('OI1 -> IO', lambda x: x[:, :, 0].T, lambda x: x.T[:, :, None])
OIK = transposed('OIK -> KIO', (2, 1, 0))


def flattened_linear(channels: int, height: int, width: int) -> Layout:
    """The linear layer after a flatten: PyTorch numbers its inputs c, h, w, Flax h, w, c."""
    size = channels * height * width

    def to_flax(weight: np.ndarray) -> np.ndarray:
        return weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(size, -1)

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(-1, size)

    return one('O(CHW) -> (HWC)O', to_flax, to_torch)


def patch_kernel(channels: int, size: int) -> Layout:
    """A convolution over patches, `size` wide, as the linear layer over each patch's pixels."""
    linear = flattened_linear(channels, size, size)
    return one(
        'OIHW -> (HWI)O',
        lambda weight: linear.to_flax([weight]),
        lambda kernel: linear.to_torch(kernel, 1)[0].reshape(-1, channels, size, size),
    )


def flattened(shape: tuple[int, int, int]) -> Layout:
    """The linear layer after flattening an image of `shape`, (height, width, channels)."""
    height, width, channels = shape
    return flattened_linear(channels, height, width)


@dataclasses.dataclass(frozen=True)
class Row:
    """`torch`: the published keys; `flax`: the NNX path, joined by '/'."""

    torch: tuple[str, ...]
    flax: str
    layout: Layout


@dataclasses.dataclass(frozen=True)
class Variant:
    """Other code with the same network under other keys.

    Attributes:
        name: whose they are, "timm's VGG16".
        modules: {a module's name there: its name in the map}; None for one that this model leaves out.
    """

    name: str
    modules: dict[str, str | None]

    def translated(self, key: str) -> str:
        """The map's key for one of the other code's."""
        module, dot, value = key.rpartition('.')
        return f'{self.modules.get(module) or module}{dot}{value}'

    def leaves_out(self, key: str) -> bool:
        """Whether the key is of a module that this model leaves out."""
        module = key.rpartition('.')[0]
        return module in self.modules and self.modules[module] is None


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


def joined(each: Sequence[Iterable[Row]], join: Callable[[Layout], Layout]) -> Iterator[Row]:
    """The rows of several layers of one kind, value by value in one row."""
    for same in zip(*each, strict=True):
        layout = same[0].layout
        keys = tuple(row.torch[0] for row in same)
        yield Row(keys, same[0].flax, layout if layout is SHARED else join(layout))
