"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST from their publishers' archives into TFDS's own layout."""

import dataclasses
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from flaxnets.errors import UserError
from train.data.download.fetch import Archive
from train.data.sources.cifar import read_binary
from train.data.sources.idx import read_idx
from train.data.sources.names import CLASS_NAMES

Examples = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Official:
    """A published data set: its archives, and how they are read.

    `read` maps the archives' files to {label feature: names} and {split: examples as TFDS's features}.
    """

    archives: tuple[Archive, ...]
    read: Callable[[list[pathlib.Path]], tuple[dict[str, list[str]], dict[str, Examples]]]


def cifar(folder: str, splits: dict[str, list[str]], labels: dict[str, str]) -> Callable:
    """Reads the binary version: for each image its label bytes, then 1,024 bytes each of red, green, blue.

    `labels` maps the label features, in the order of their bytes, to the files of their names.
    """

    def read(files: list[pathlib.Path]) -> tuple[dict[str, list[str]], dict[str, Examples]]:
        wanted = [*(name for names in splits.values() for name in names), *labels.values()]
        members = tar_members(files[0], [f'{folder}/{name}' for name in wanted])
        names = {
            key: list(filter(None, members[f'{folder}/{name}'].decode().splitlines()))
            for key, name in labels.items()
        }

        classes = [len(known) for known in names.values()]

        def examples(split: str) -> Examples:
            index = 0
            for name in splits[split]:
                parsed = read_binary(members[f'{folder}/{name}'], classes, f'{files[0]} ({name})')
                for image, numbers in zip(*parsed, strict=True):
                    each = dict(zip(names, numbers.tolist(), strict=True))
                    yield {'id': f'{split}_{index:05d}', 'image': image, **each}
                    index += 1

        return names, {split: examples(split) for split in splits}

    return read


def tar_members(file: pathlib.Path, names: list[str]) -> dict[str, bytes]:
    """The contents of the regular files `names` in a gzipped tar. Nothing is extracted: other members,
    such as links and paths outside the folder, are ignored."""
    try:
        with tarfile.open(file, 'r:gz') as archive:
            found = {}
            for member in archive:
                if member.name in names and member.isreg() and (stream := archive.extractfile(member)):
                    found[member.name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f'{file}: truncated or not a gzipped tar ({error}); delete it and run again'
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f'{file}: {missing[0]} is not in it; delete it and run again')
    return found


def mnist(names: tuple[str, ...]) -> Callable:
    """Reads four gzipped idx files: images and labels of 'train', then of 'test'."""

    def read(files: list[pathlib.Path]) -> tuple[dict[str, list[str]], dict[str, Examples]]:
        def examples(images: pathlib.Path, labels: pathlib.Path) -> Examples:
            pairs = zip(read_idx(images, 3), read_idx(labels, 1), strict=True)
            for image, label in pairs:
                yield {'image': image[..., None], 'label': int(label)}

        return {'label': list(names)}, {'train': examples(*files[:2]), 'test': examples(*files[2:])}

    return read


def _idx(base: str, *files: tuple[str, int, str]) -> tuple[Archive, ...]:
    return tuple(Archive(f'{base}/{stem}-ubyte.gz', size, sha256) for stem, size, sha256 in files)


# Sizes and checksums as tensorflow-datasets 4.9.10 has them in url_checksums/.
OFFICIAL = {
    'cifar10': Official(
        (
            Archive(
                'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
                170052171,
                'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
            ),
        ),
        cifar(
            'cifar-10-batches-bin',
            {'train': [f'data_batch_{n}.bin' for n in range(1, 6)], 'test': ['test_batch.bin']},
            {'label': 'batches.meta.txt'},
        ),
    ),
    'cifar100': Official(
        (
            Archive(
                'https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
                168513733,
                '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
            ),
        ),
        cifar(
            'cifar-100-binary',
            {'train': ['train.bin'], 'test': ['test.bin']},
            {'coarse_label': 'coarse_label_names.txt', 'label': 'fine_label_names.txt'},
        ),
    ),
    'mnist': Official(
        _idx(
            'https://storage.googleapis.com/cvdf-datasets/mnist',
            (
                'train-images-idx3',
                9912422,
                '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
            ),
            ('train-labels-idx1', 28881, '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
            ('t10k-images-idx3', 1648877, '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
            ('t10k-labels-idx1', 4542, 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
        ),
        mnist(CLASS_NAMES['mnist']),
    ),
    'fashion_mnist': Official(
        _idx(
            'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',
            (
                'train-images-idx3',
                26421880,
                '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84',
            ),
            ('train-labels-idx1', 29515, 'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845'),
            ('t10k-images-idx3', 4422102, '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073'),
            ('t10k-labels-idx1', 5148, '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5'),
        ),
        mnist(CLASS_NAMES['fashion_mnist']),
    ),
}
