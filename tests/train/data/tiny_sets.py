"""Small data sets in the real formats, written where a test wants them."""

import gzip
import io
import json
import pathlib
import pickle
import struct
import types

import numpy as np
from PIL import Image

from train.data.sources.names import CIFAR10

COUNTS = {'train': 40, 'test': 20}


def config(**chosen):
    """What `load` reads of config.data."""
    defaults = {
        'name': 'digits', 'source': 'auto', 'data_dir': '', 'download': False, 'classes': (),
        'image_size': (), 'channels': 0, 'validation': 0.0, 'limit': 0, 'test_limit': 0, 'cache_dir': '',
    }  # fmt: skip
    return types.SimpleNamespace(
        **{k: str(v) if k.endswith('_dir') else v for k, v in (defaults | chosen).items()}
    )


def arrays(shape=(32, 32, 3), classes=10, counts=COUNTS):
    """{split: (images, labels)}: every class equally often, no two images alike."""
    random = np.random.default_rng(0)
    return {
        split: (
            random.integers(0, 256, (count, *shape), dtype=np.uint8),
            random.permutation(np.arange(count) % classes),
        )
        for split, count in counts.items()
    }


def as_set(images, labels):
    """What of a data set does not depend on its order."""
    return sorted((np.asarray(i).tobytes(), int(label)) for i, label in zip(images, labels, strict=True))


def png(image):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, format='PNG')
    file.seek(0)
    return file


def write_tfds(data, name, root):
    """A TFDS directory as the official writer makes it, ArrayRecord."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = tfds.builder(name, data_dir=str(root), file_format='array_record')

    def examples(split):
        for i, (image, label) in enumerate(zip(*data[split], strict=True)):
            extra = {'id': f'{split}_{i:05d}'} if 'id' in builder.info.features else {}
            yield i, {'image': png(image), 'label': int(label)} | extra

    builder._split_generators = lambda _: {split: examples(split) for split in data}
    builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


def as_tfrecord(folder, target):
    """The same set in TFDS's default format."""
    from array_record.python import array_record_module
    from tensorboardX.record_writer import RecordWriter

    target.mkdir(parents=True)
    for file in folder.iterdir():
        if 'array_record' not in file.name:
            text = file.read_text().replace('"array_record"', '"tfrecord"')
            (target / file.name).write_text(text)
            continue
        records = array_record_module.ArrayRecordReader(str(file)).read_all()
        writer = RecordWriter(str(target / file.name.replace('array_record', 'tfrecord')))
        for record in records:
            writer.write(record)
        writer.close()
    return target


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote str, as in CIFAR's files."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, value):
        self.write(b'T' + struct.pack('<I', len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2_pickle(value):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b'numpy._core.multiarray', b'numpy.core.multiarray')


def write_cifar10(data, root, dump=python2_pickle):
    """`cifar-10-batches-py`."""
    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    images, labels = data['train']
    parts = [slice(i, None, 5) for i in range(5)]
    batches = {f'data_batch_{i + 1}': (images[p], labels[p]) for i, p in enumerate(parts)}
    for name, (images, labels) in (batches | {'test_batch': data['test']}).items():
        rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
        content = {b'batch_label': name.encode(), b'labels': [int(label) for label in labels], b'data': rows}
        (folder / name).write_bytes(dump(content))
    (folder / 'batches.meta').write_bytes(
        dump({b'label_names': [c.encode() for c in CIFAR10], b'num_vis': 3072})
    )
    return folder


def write_cifar100(data, root, names):
    """`cifar-100-python`."""
    folder = root / 'cifar-100-python'
    folder.mkdir(parents=True)
    for split, (images, labels) in data.items():
        rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
        fine = [int(label) for label in labels]
        content = {b'fine_labels': fine, b'coarse_labels': [label // 5 for label in fine], b'data': rows}
        (folder / split).write_bytes(python2_pickle(content))
    coarse = [b'coarse_%d' % i for i in range(20)]
    meta = {b'fine_label_names': [n.encode() for n in names], b'coarse_label_names': coarse}
    (folder / 'meta').write_bytes(python2_pickle(meta))
    return folder


def idx(array):
    """The bytes of an idx file."""
    head = struct.pack(f'>{1 + array.ndim}I', 0x800 + array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_idx(data, folder, gzipped=False):
    """`MNIST/raw`, or what `folder` is."""
    folder.mkdir(parents=True)
    for split, stem in (('train', 'train'), ('test', 't10k')):
        images, labels = data[split]
        for kind, array in (('images-idx3', images[..., 0]), ('labels-idx1', labels)):
            file = folder / f'{stem}-{kind}-ubyte{".gz" if gzipped else ""}'
            file.write_bytes(gzip.compress(idx(array)) if gzipped else idx(array))
    return folder


def write_folder(data, root, names, splits=True):
    """`root/train/class/*.png`, or `root/class/*.png` of the training images."""
    for split in data if splits else ['train']:
        for i, (image, label) in enumerate(zip(*data[split], strict=True)):
            folder = root / split / names[label] if splits else root / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f'{i:04d}.png').write_bytes(png(image).getvalue())
    return root


def rename_set(folder, name):
    """Make a TFDS directory say that it is another set."""
    file = folder / 'dataset_info.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'name': name}))


class Call:
    """Pickled, a call of any function that the reader can import."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call
