"""Image sets from wherever they are: TFDS, torchvision's files, folders, PyTorch, or embedded."""

from train.data.imageset import ImageSet
from train.data.sources.torch import from_torch
from train.data.splits import load

__all__ = ['ImageSet', 'from_torch', 'load']
