"""PyTorch's `.pt` files without PyTorch.

`torch.save` writes a zip archive: `NAME/data.pkl`, a pickle of the saved object in which a tensor is
a call of `_rebuild_tensor_v2(storage, offset, size, stride, ...)`, and `NAME/data/KEY`, the bytes of
each storage. `read` rebuilds dictionaries, lists, numbers, strings and tensors, as numpy arrays, and
admits nothing else: a pickle that names any other object, which is how a pickle runs code, is refused
before anything is called.
"""

import collections
import io
import math
import pickle
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np

STORAGES: dict[str, Any] = {
    'DoubleStorage': np.float64,
    'FloatStorage': np.float32,
    'HalfStorage': np.float16,
    'BFloat16Storage': jnp.bfloat16,
    'LongStorage': np.int64,
    'IntStorage': np.int32,
    'ShortStorage': np.int16,
    'CharStorage': np.int8,
    'ByteStorage': np.uint8,
    'BoolStorage': np.bool_,
}
CODE = (
    'it contains {!r}, not only tensors and plain values; nothing in it was run; save only model.state_dict()'
)


class BadFile(Exception):
    """Why a file cannot be read, to follow its name in a message."""


def read(file: io.BufferedIOBase) -> Any:
    """The object that `torch.save` wrote to `file`.

    Raises:
        BadFile: it is damaged, in another format, or contains more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
            if len(pickles) != 1:
                raise BadFile('a zip archive, but not one of torch.save')
            return Storages(archive, pickles[0].removesuffix('data.pkl')).load()
    except BadFile:
        raise
    except Exception as error:  # zipfile and pickle raise a dozen types at damaged data
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise BadFile(f'damaged or truncated ({reason})') from None


class Storages:
    """The storages of an archive, read when a tensor first needs them."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        self.archive = archive
        self.folder = folder
        self.read: dict[str, np.ndarray] = {}
        self.order = '<'
        if f'{folder}byteorder' in archive.namelist() and self.bytes_of('byteorder') == b'big':
            self.order = '>'

    def bytes_of(self, name: str) -> bytes:
        try:
            entry = self.archive.getinfo(self.folder + name)
        except KeyError:
            raise BadFile(f'damaged: {name!r} is missing') from None
        if entry.compress_type != zipfile.ZIP_STORED:  # a small file that unpacks to a huge one
            raise BadFile('compressed, which torch.save never does')
        return self.archive.read(entry)

    def load(self) -> Any:
        return Unpickler(self, self.bytes_of('data.pkl')).load()

    def storage(self, kind: Any, key: str, count: int) -> np.ndarray:
        """The storage `key` as a row of `count` values."""
        if key not in self.read:
            data = self.bytes_of(f'data/{key}')
            dtype = np.dtype(kind)
            if len(data) != count * dtype.itemsize:
                raise BadFile(
                    f'damaged: storage {key} has {len(data)} bytes instead of {count * dtype.itemsize}'
                )
            self.read[key] = np.frombuffer(data, dtype.newbyteorder(self.order)).astype(dtype, copy=False)
        return self.read[key]


class Unpickler(pickle.Unpickler):
    """Calls two functions of this file, builds two kinds of containers, knows storages by name."""

    def __init__(self, storages: Storages, data: bytes):
        super().__init__(io.BytesIO(data), encoding='utf-8')
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        # Nothing that is returned here can be changed by a pickle's BUILD: bound methods, C types, strings.
        known = {
            'torch._utils._rebuild_tensor_v2': self.tensor,
            'torch._utils._rebuild_parameter': self.parameter,
            'collections.OrderedDict': collections.OrderedDict,
            'collections.Counter': dict,
            'torch.Size': tuple,
        }
        full = f'{module}.{name}'
        if module == 'torch' and name in STORAGES:
            return name
        if full not in known:
            raise BadFile(CODE.format(full))
        return known[full]

    def persistent_load(self, pid: Any) -> np.ndarray:
        what, kind, key, _, count = pid
        if what != 'storage' or kind not in STORAGES:
            raise BadFile(f'damaged: {what!r} of {kind!r} instead of a storage')
        return self.storages.storage(STORAGES[kind], key, count)

    def tensor(self, storage: np.ndarray, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """A view of `storage`; the remaining arguments are of no use outside PyTorch."""
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min(offset, 0, *size, *stride) < 0 or count > storage.size or (count and last >= storage.size):
            raise BadFile('damaged: a tensor reaches beyond its storage')
        if not count:
            return np.zeros(size, storage.dtype)
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def parameter(self, data: np.ndarray, *_: Any) -> np.ndarray:
        """The tensor of a `torch.nn.Parameter`."""
        return data
