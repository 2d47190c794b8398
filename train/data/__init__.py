"""Image sets from wherever they are: TFDS, torchvision's files, folders, PyTorch, or embedded."""

from train.data.imageset import ImageSet
from train.data.sources import load
from train.data.torch_interop import from_torch

__all__ = ['ImageSet', 'from_torch', 'load']
