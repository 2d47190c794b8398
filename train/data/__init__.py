"""Images, from the config to the step: the whole chain, one stage per line.

    config.data
      -> a source        sources/: a TFDS directory, torchvision's files, a folder, PyTorch, the digits;
                         `locate.py` says which, and download/ gets missing sets
      -> decoded once    sources/records.py and decode.py: pixels of one size and one number of channels
      -> one array       cache.py: a file of each stored split, hashed once, mapped into memory afterwards
      -> one selection   selection.py, splits.py: split, classes and limit become one array of indices
      -> ImageSet        imageset.py: the array and the indices; a PyTorch DataLoader takes it, too
      -> placed          pipeline.OnDevice: the pixels are on the devices; or stream.Stream: they stay on
                         disk and batches are read ahead. Both give the same batches by `feed(rows)`
      -> batches         pipeline.py: a function of (seed, step), the next part of the epoch's permutation
      -> augmented       augment.py: in the compiled step, by keys that are a function of (seed, step)

`load` and `load_splits` go from the config to the `ImageSet`, `train.experiment` places it, `train.loop` asks
for its batches. What follows the `ImageSet` does not know where it came from.
"""

from train.data.imageset import ImageSet
from train.data.sources.torch import from_torch
from train.data.spec import ImageSpec
from train.data.splits import load, load_splits

__all__ = ['ImageSet', 'ImageSpec', 'from_torch', 'load', 'load_splits']
