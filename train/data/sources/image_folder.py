"""A folder of images, one subfolder a class: `root/class/*.png` or `root/train/class/*.png`."""

import pathlib

import numpy as np

from flaxnets.errors import UserError
from train.data.decode import decode
from train.data.sources.records import Records, files_version

SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.ppm', '.webp'}
SPLITS = {
    'train': ('train', 'training'),
    'validation': ('validation', 'val', 'valid'),
    'test': ('test', 'testing'),
}


class ImageFolder:
    """Images in folders named as their classes, in folders named as the splits if there are several.

    Classes are numbered in the order of their names, images follow each other class by class, by name.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._roots = {
            split: folder / name
            for split, names in SPLITS.items()
            for name in names
            if (folder / name).is_dir()
        } or {'train': folder}

    @classmethod
    def find(cls, folder: pathlib.Path) -> 'ImageFolder | None':
        """The folder, if images are where they should be."""
        found = any(
            path.suffix.lower() in SUFFIXES for pattern in ('*/*', '*/*/*') for path in folder.glob(pattern)
        )
        return cls(folder) if found else None

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that have a folder, else 'train'."""
        return tuple(self._roots)

    @property
    def version(self) -> str:
        """A digest of all images' paths, sizes and times of change."""
        return files_version(path for root in self._roots.values() for path in _images(root))

    def read(self, split: str) -> Records:
        """The records of a split; every class must have images, and be a class of the training images."""
        root = self._roots[split]
        names = _classes(self._roots.get('train', root))
        files = []
        for name in _classes(root):
            if name not in names:
                raise UserError(f'{root / name}: no class of the training images ({", ".join(names)[:200]})')
            images = _images(root / name)
            if not images:
                raise UserError(
                    f'{root / name}: no {", ".join(sorted(SUFFIXES))} file; fill or delete the folder'
                )
            files += [(path, names.index(name)) for path in images]
        items = ((_read(path), label) for path, label in files)
        return Records(len(files), items, names, str(root))


def _read(path: pathlib.Path) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: not readable ({error}); replace or delete it') from error
    return decode(data, str(path))


def _classes(root: pathlib.Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith('.')))


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES and path.is_file())
