"""What the sources have in common that read a folder with the files of one set."""

import pathlib
from collections.abc import Iterable
from typing import ClassVar, Self

from train.data.sources.records import files_version


class SetFolder:
    """The folder of the set `name`."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder = folder
        self.name = name

    @property
    def version(self) -> str:
        """A digest of the folder's files."""
        return files_version(self._files())

    def where(self, split: str) -> str:
        """The folder."""
        return str(self.folder)

    def _files(self) -> Iterable[pathlib.Path]:
        return (path for path in self.folder.iterdir() if path.is_file())


class TorchvisionFolder(SetFolder):
    """A folder as torchvision leaves it: `FOLDERS` has its path by the name of the set."""

    FOLDERS: ClassVar[dict[str, str]] = {}
    splits = ('train', 'test')

    @classmethod
    def find(cls, root: pathlib.Path, name: str) -> Self | None:
        """The set under `root`, which may be its folder itself."""
        if name in cls.FOLDERS:
            path = root / cls.FOLDERS[name]
            # Such as MNIST/raw, raw, or the folder itself.
            for folder in (path, root / path.name, root):
                if cls._is_set(folder, name):
                    return cls(folder, name)
        return None

    @classmethod
    def _is_set(cls, folder: pathlib.Path, name: str) -> bool:
        """Whether the files of the set are in `folder`."""
        raise NotImplementedError
