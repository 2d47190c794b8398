"""A folder of images, one subfolder for each class: `root/class/*.png` or `root/train/class/*.png`."""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib

from flaxnets.errors import UserError
from train.data.decode import decode_file
from train.data.sources.records import Records, files_version, printable

# What torchvision's ImageFolder reads.
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
# The split that a folder's name, in small letters, stands for.
SPLIT_OF = {
    **dict.fromkeys(('train', 'training'), 'train'),
    **dict.fromkeys(('val', 'valid', 'validation', 'eval', 'evaluation', 'dev'), 'validation'),
    **dict.fromkeys(('test', 'testing'), 'test'),
}
SPLITS = ('train', 'validation', 'test')


class ImageFolder:
    """Images in folders named as their classes, in folders named as the splits if there are several.

    Classes are numbered in the order of their names, images follow each other class by class, by name.
    Upper and lower case of a split's name are the same; hidden files and folders are ignored.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._roots = _split_folders(folder)

    @classmethod
    def find(cls, folder: pathlib.Path) -> 'ImageFolder | None':
        """The folder, if it has images in class folders."""
        found = any(is_image(path) for pattern in ('*/*', '*/*/*') for path in folder.glob(pattern))
        return cls(folder) if found else None

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that have a folder, else 'train'."""
        return tuple(self._roots)

    @property
    def version(self) -> str:
        """A digest of all images' paths, sizes and times of change."""
        classes = (images for files in self._files.values() for images in files.classes.values())
        return files_version(itertools.chain(*classes), self.folder)

    def where(self, split: str) -> str:
        """The split's folder, and how many files and folders were not read."""
        notes = [_skipped(self._files[split].skipped)]
        if split == 'train' and self._roots[split] != self.folder:
            others = [path.name for path in _subfolders(self.folder) if path not in self._roots.values()]
            notes.append(f'not used: {", ".join(others)}' if others else '')
        said = '; '.join(filter(None, notes))
        return printable(f'{self._roots[split]}' + (f' ({said})' if said else ''))

    def read(self, split: str) -> Records:
        """The records of a split; every class must have images, and be a class of the training images."""
        root, classes = self._roots[split], self._files[split].classes
        if not classes:
            raise UserError(
                f'{root}: expected a folder of images for each class; make such folders, or name the classes '
                'in a labels.csv with the columns file and label'
            )
        names = tuple(self._files['train' if 'train' in self._roots else split].classes)
        files = []
        for name, images in classes.items():
            if name not in names:
                raise UserError(f'{root / name}: no class of the training images ({", ".join(names)[:200]})')
            if not images:
                raise UserError(f'{root / name}: no {", ".join(SUFFIXES)} file; fill or delete the folder')
            files += [(path, names.index(name)) for path in images]
        items = ((decode_file(path), label) for path, label in files)
        return Records(len(files), items, names, str(root))

    @functools.cached_property
    def _files(self) -> 'dict[str, Files]':
        return {split: _list(root) for split, root in self._roots.items()}


@dataclasses.dataclass
class Files:
    """The image files of each class under a folder, and the number of other files by suffix."""

    classes: dict[str, list[pathlib.Path]]
    skipped: collections.Counter


def is_image(path: pathlib.Path) -> bool:
    """Whether the file's name is one of an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith('.')


def visible_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files below a folder, through links too, by name; hidden ones left out."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        found += [pathlib.Path(place, name) for name in names if not name.startswith('.')]
    return sorted(found)


def _list(root: pathlib.Path) -> Files:
    files = Files({}, collections.Counter())
    for folder in _subfolders(root):
        there = visible_files(folder)
        files.classes[printable(folder.name)] = [path for path in there if is_image(path)]
        files.skipped.update(path.suffix.lower() or 'no suffix' for path in there if not is_image(path))
    loose = sum(is_image(path) for path in root.iterdir())
    files.skipped.update({'images outside the class folders': loose} if loose else {})
    return files


def _skipped(kinds: collections.Counter) -> str:
    """Such as '3 files skipped: 2 .txt, 1 .heic'."""
    listed = ', '.join(f'{count} {kind}' for kind, count in kinds.most_common(5))
    return f'{kinds.total()} files skipped: {listed}' if listed else ''


def _split_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split; of a folder without any, itself as 'train'."""
    found: dict[str, pathlib.Path] = {}
    for path in _subfolders(folder):
        split = SPLIT_OF.get(path.name.lower())
        if split in found:
            raise UserError(
                f'{folder}: {found[split].name} and {path.name} both stand for {split} images; rename one'
            )
        if split:
            found[split] = path
    # Without a training folder, a folder with images in it is a class with the name of a split by chance.
    if 'train' not in found and not all(_subfolders(path) for path in found.values()):
        found = {}
    return {split: found[split] for split in SPLITS if split in found} or {'train': folder}


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
