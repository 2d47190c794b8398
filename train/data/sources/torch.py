"""PyTorch's data sets as `ImageSet`s. (An `ImageSet` itself can be given to a torch DataLoader.)"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from flaxnets.errors import UserError
from train.data.decode import from_picture, sides
from train.data.imageset import ImageSet
from train.data.sources.records import Records, in_memory


def from_torch(
    dataset_or_loader: Any,
    *,
    class_names: Sequence[str] = (),
    name: str = 'torch',
    split: str = 'train',
    channels: Literal['first', 'last', ''] = '',
    image_size: int | Sequence[int] = 0,
) -> ImageSet:
    """Decode a PyTorch map-style `Dataset` or a `DataLoader` into memory, in the order of its indices.

    Items are pairs (image, label) or {'image', 'label'}; images PIL, numpy or tensor, uint8 or float in
    [0, 1], grey or RGB, their `channels` 'first' or 'last' ('': the axis of 1 or 3; where both could be,
    tensors are channels first and arrays last). A loader gives its samples once each, ordered by index
    whatever its sampler's order, through its own workers and collation. Transforms run once, now: leave
    random ones and Normalize out, the train step augments and normalises.

    `class_names` default to the data set's `classes`, else the numbers. Raises UserError for anything else.
    """
    is_loader = hasattr(dataset_or_loader, 'dataset') and hasattr(dataset_or_loader, 'batch_size')
    dataset = dataset_or_loader.dataset if is_loader else dataset_or_loader
    where = f'{type(dataset).__name__} {name} {split}'
    if is_loader:
        pairs = _batched(_in_order(dataset_or_loader), where)
    elif hasattr(dataset, '__len__') and hasattr(dataset, '__getitem__'):
        pairs = (_pair(dataset[i], where) for i in range(len(dataset)))
    else:
        raise UserError(
            f'from_torch: expected a map-style Dataset or a DataLoader, got {type(dataset).__name__}; '
            'wrap an iterable data set in a DataLoader'
        )
    items = [(_pixels(image, channels, where), _label(label, where)) for image, label in pairs]
    if not items:
        raise UserError(f'{where}: expected at least one image, got none')
    index, highest = max(((i, label) for i, (_, label) in enumerate(items)), key=lambda each: each[1])
    names = tuple(class_names or _class_names(dataset)) or tuple(map(str, range(1 + highest)))
    if highest >= len(names):
        raise UserError(
            f'{where}: label {highest} of image {index} is not in 0..{len(names) - 1}, the numbers of the '
            'class names; number the classes from 0, or give from_torch all of their class_names'
        )
    records = Records(len(items), iter(items), names, where)
    return in_memory(records, sides(image_size), 0, name=name, split=split)


def _in_order(loader: Any) -> Any:
    """The loader without shuffling and without a dropped last batch."""
    from torch.utils.data import BatchSampler, DataLoader, IterableDataset

    settings: dict[str, Any] = {
        'num_workers': loader.num_workers,
        'multiprocessing_context': loader.multiprocessing_context,
        'collate_fn': loader.collate_fn,
    }
    if isinstance(loader.dataset, IterableDataset):
        return DataLoader(loader.dataset, batch_size=loader.batch_size, **settings)
    # Three ways to batch: by the loader itself, by `batch_sampler`, and by the data set, which is asked for
    # the lists of indices that a BatchSampler given as `sampler` makes.
    lists = isinstance(loader.sampler, BatchSampler)
    batches = loader.sampler if lists else loader.batch_sampler
    if batches is None:
        return DataLoader(loader.dataset, batch_size=None, sampler=_indices(loader.sampler), **settings)
    indices = _indices(batches.sampler) if hasattr(batches, 'sampler') else _listed(batches, loader.dataset)
    size = getattr(batches, 'batch_size', 64)
    cut = [indices[i : i + size] for i in range(0, len(indices), size)]
    if lists:
        return DataLoader(loader.dataset, batch_size=None, sampler=cut, **settings)
    return DataLoader(loader.dataset, batch_sampler=cut, **settings)


def _indices(sampler: Any) -> list[int]:
    """What a sampler draws from, each index once. One that draws with replacement has them all."""
    if getattr(sampler, 'replacement', False):
        drawn_from = getattr(sampler, 'data_source', None)
        return list(range(len(sampler.weights if drawn_from is None else drawn_from)))
    return sorted(set(sampler))


def _listed(batches: Any, dataset: Any) -> list[int]:
    """All indices in the batches of a batch sampler, with a warning if the data set has more."""
    indices = sorted({int(index) for batch in batches for index in batch})
    if len(indices) < len(dataset):
        warnings.warn(
            f'from_torch: the batch_sampler gives {len(indices)} of {len(dataset)} images; the others '
            'are not read. Give a loader without it to read them all',
            RuntimeWarning,
            stacklevel=5,
        )
    return indices


def _batched(loader: Any, where: str) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        images, labels = _pair(batch, where)
        if np.ndim(labels) == 0:  # batch_size=None: single items
            yield images, labels
        else:
            yield from zip(images, labels, strict=True)


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, dict) and {'image', 'label'} <= item.keys():
        return item['image'], item['label']
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    raise UserError(
        f"{where}: expected items (image, label) or {{'image', 'label'}}, got {type(item).__name__}"
    )


def _class_names(dataset: Any) -> Sequence[str]:
    while not hasattr(dataset, 'classes') and hasattr(dataset, 'dataset'):  # a Subset
        dataset = dataset.dataset
    names: Any = getattr(dataset, 'classes', None) or getattr(dataset, 'class_names', ())
    return [str(name) for name in names]


def _label(label: Any, where: str) -> int:
    array = np.asarray(label)
    if array.ndim or array.dtype.kind not in 'iu':
        raise UserError(f'{where}: expected an integer label, got {array.dtype} of shape {array.shape}')
    if array < 0:
        raise UserError(f'{where}: expected a label of 0 or more, got {array}; leave out unlabelled images')
    return int(array)


def _pixels(image: Any, channels: str, where: str) -> np.ndarray:
    """[H, W, 1 or 3] uint8 of whatever the item's image is."""
    if hasattr(image, 'getbands'):
        return from_picture(image, where)
    first = channels == 'first' or (not channels and hasattr(image, 'numpy'))  # PyTorch's tensors
    if hasattr(image, 'detach'):  # whatever its device, with a gradient or without
        try:
            image = image.detach().cpu()
            image = image.float() if image.dtype.is_floating_point else image  # NumPy knows no bfloat16
            image = image.numpy()
        except (TypeError, NotImplementedError):  # a sparse, quantised or empty ("meta") one
            kind = f'{image.layout} tensors of {image.dtype} on {image.device}'
            raise UserError(f'{where}: expected dense tensors with values, got {kind}') from None
    array = np.asarray(image)
    if array.dtype.kind in 'OSU':
        raise UserError(
            f'{where}: expected images as PIL images, arrays or tensors, got {type(image).__name__}; '
            'open and convert them in the Dataset'
        )
    if array.ndim == 2:
        array = array[None] if first else array[..., None]
    if array.ndim != 3 or not {array.shape[0], array.shape[-1]} & {1, 3}:
        raise UserError(
            f'{where}: expected images [H, W], [H, W, 1 or 3] or [1 or 3, H, W], got {array.shape}'
        )
    if not channels and array.shape[0 if first else -1] not in (1, 3):
        first = not first
    array = array.transpose(1, 2, 0) if first else array
    if array.shape[-1] not in (1, 3):
        raise UserError(f'{where}: channels={channels!r} but the images are {np.shape(image)}')
    return _bytes(array, where)


def _bytes(array: np.ndarray, where: str) -> np.ndarray:
    """uint8 of uint8, of other integers in 0..255, or of floats in [0, 1]."""
    if array.dtype == np.uint8:
        return array
    kind = array.dtype.kind
    if kind not in 'fiu':
        raise UserError(f'{where}: expected uint8 or floats in [0, 1], got {array.dtype}')
    low, high, top = array.min(), array.max(), 1 if kind == 'f' else 255
    if low >= 0 and high <= top:
        return np.round(array * (255 / top)).astype(np.uint8)
    if kind != 'f':
        remedy = 'scale them to 0..255' + (' (of 16 bits: image // 256)' if high > 255 else '')
    elif low >= 0 and high <= 255:
        remedy = 'divide them by 255'
    elif low < 0:
        remedy = 'leave Normalize out of the transform (data.mean and data.std do it)'
    else:
        remedy = 'scale them to [0, 1]; are all of them finite?'
    raise UserError(
        f'{where}: expected uint8 or floats in [0, 1], got {array.dtype} from {low:.4g} to {high:.4g}: '
        f'{remedy}'
    )
