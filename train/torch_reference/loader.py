"""A PyTorch DataLoader on the files that `train.data` reads, for the benchmark.

Items are read and augmented one by one in worker processes, as torchvision's data sets and transforms do.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from train.data.sources.cifar import CifarPickles


class Augmented(Dataset):
    """Items of a source as training wants them: padded and cropped, flipped, normalised, [C, H, W].

    Tensor operations throughout: by way of Pillow, torchvision's older habit, each item costs more.
    """

    def __init__(
        self, items: Any, read: Callable[[Any], tuple[np.ndarray, int]], padding: int, mean: Any, std: Any
    ):
        self.items, self.read, self.padding = items, read, padding
        self.mean, self.std = (torch.tensor(x).reshape(-1, 1, 1) for x in (mean, std))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.read(self.items[index])
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        height, width = pixels.shape[1:]
        padded = torch.nn.functional.pad(pixels, [self.padding] * 4)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        pixels = padded[:, top : top + height, left : left + width]
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(2)
        return (pixels.float() / 255 - self.mean) / self.std, label


class Pickles(Sequence):
    """CIFAR's files, decoded into memory when they are opened, as torchvision does."""

    def __init__(self, root: pathlib.Path):
        items = list(CifarPickles(root / CifarPickles.FOLDERS['cifar10'], 'cifar10').read('train').items)
        self.images, self.labels = np.stack([image for image, _ in items]), [label for _, label in items]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        return {'image': self.images[index], 'label': self.labels[index]}


def pictures(root: pathlib.Path) -> list[tuple[str, int]]:
    """(file, class) of a folder of images, as torchvision's ImageFolder lists them."""
    classes = sorted(entry.name for entry in os.scandir(root))
    return [(str(f), i) for i, name in enumerate(classes) for f in sorted((root / name).iterdir())]


def as_item(item: dict[str, Any]) -> tuple[np.ndarray, int]:
    """The image and label of an item with its pixels."""
    return np.require(item['image'], requirements='W'), int(item['label'])  # a copy of what TFDS decodes


def from_file(item: tuple[str, int]) -> tuple[np.ndarray, int]:
    """The image and label of an item that names its file."""
    with Image.open(item[0]) as picture:
        pixels = np.array(picture if picture.mode == 'L' else picture.convert('RGB'))
    return pixels if pixels.ndim == 3 else pixels[..., None], item[1]


def loader(dataset: Dataset, batch_size: int, workers: int) -> DataLoader:
    """Shuffled batches from `workers` processes, which are started anew, because JAX's threads do not survive
    a fork, and stay for all epochs."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context='spawn' if workers else None,
        persistent_workers=workers > 0,
    )


def epoch(batches: DataLoader) -> int:
    """Reads all batches; the number of images."""
    return sum(len(labels) for _, labels in batches)
