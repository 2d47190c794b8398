"""Where the images are: from `config.data` to a source, which is downloaded if necessary."""

import os
import pathlib
import shlex
import sys
import warnings
from typing import Any

from flaxnets.errors import UserError
from train import provenance
from train.data.download import write_tfds
from train.data.download.archives import OFFICIAL
from train.data.sources.cifar import CifarPickles
from train.data.sources.digits import EmbeddedDigits
from train.data.sources.idx import IdxFiles
from train.data.sources.image_folder import ImageFolder, is_image
from train.data.sources.labels_csv import LabelledFiles
from train.data.sources.records import Source, printable
from train.data.sources.tfds import TfdsDirectory, find_directory

SOURCES = ('auto', 'tfds', 'torch', 'folder', 'embedded')


class NotFound(UserError):
    """The data set is nowhere; `missing` says where it was searched, without the advice for `train`."""

    def __init__(self, missing: str, advice: str):
        super().__init__(f'{missing}{"" if missing.endswith("?") else ";"} {advice}')
        self.missing = missing


def find(data: Any) -> Source:
    """The place that `data.source` names, with 'auto' the first that has `data.name`; else it is downloaded.

    Raises NotFound if it is in no place, and within seconds if it cannot be downloaded; the message says
    where it was searched, how to choose another place, and the same command with the embedded digits.
    """
    if data.source not in SOURCES:
        raise UserError(f'data.source: expected one of {", ".join(SOURCES)}, got {data.source!r}')
    if data.source == 'embedded' and data.name != 'digits':
        raise UserError(f'data.source=embedded has only digits, got data.name={data.name!r}')
    embedded = data.source in ('auto', 'embedded') and data.name == 'digits'
    if data.source == 'embedded' or (embedded and not data.data_dir):
        return EmbeddedDigits()
    places = roots(data.data_dir)
    for root in places:
        if (found := _on_disk(root, data)) is not None:
            return found
    missing = f'{data.name} was not found in {", ".join(map(_described, places))}'
    if data.data_dir and _is_one_set(places[0]):
        name = printable(places[0].resolve().name)
        raise NotFound(
            missing,
            f'for the images in {places[0]} give --config.data.name a name of your choice, such as {name}',
        )
    if embedded:
        warnings.warn(
            f'{missing}: training on the embedded digits, which need no data_dir',
            RuntimeWarning,
            stacklevel=2,
        )
        return EmbeddedDigits()
    if data.source in ('auto', 'tfds') and data.download:
        try:
            folder = write_tfds.prepare(data.name, places[0])
        except UserError as error:
            missing = _unnamed(places[0], data) or f'{missing}; {error}'
            raise NotFound(missing, _advice(data)) from error
        return TfdsDirectory(folder, data.name.partition(':')[0])
    raise NotFound(_unnamed(places[0], data) or missing, _advice(data))


def roots(configured: str) -> list[pathlib.Path]:
    """Where to look: the folder configured, else TFDS's and ./data."""
    if configured:
        return [pathlib.Path(configured).expanduser()]
    usual = [os.environ.get('TFDS_DATA_DIR'), '~/tensorflow_datasets', 'data']
    return [pathlib.Path(place).expanduser() for place in usual if place]


def _on_disk(root: pathlib.Path, data: Any) -> Source | None:
    """The source of `data.source` that has `data.name` under `root`."""
    found: Source | None = None
    if data.source in ('auto', 'tfds') and (folder := find_directory(root, data.name)) is not None:
        return TfdsDirectory(folder, data.name.partition(':')[0])
    if data.source in ('auto', 'torch'):
        _check_not_another(root, data.name)
        found = CifarPickles.find(root, data.name) or IdxFiles.find(root, data.name)
    if found is None and data.source in ('auto', 'folder'):
        found = _of_images(root / data.name)
        # the folder itself, unless the name is that of a well-known set
        known = data.name in OFFICIAL or data.name == 'digits'
        if found is None and data.data_dir and (data.source == 'folder' or not known):
            found = _of_images(root)
    return found


def _of_images(folder: pathlib.Path) -> Source | None:
    """The folder's images, whose classes a table or its subfolders name."""
    return LabelledFiles.find(folder) or ImageFolder.find(folder)


def _is_one_set(folder: pathlib.Path) -> bool:
    """Whether the folder's images are one set, and not several sets."""
    source = _of_images(folder)
    return isinstance(source, LabelledFiles) or (
        isinstance(source, ImageFolder)
        and (source.splits != ('train',) or any(is_image(path) for path in folder.glob('*/*')))
    )


def _unnamed(folder: pathlib.Path, data: Any) -> str:
    """What is missing where a folder has images that no folder or table gives a class; else empty."""
    if not data.data_dir or not folder.is_dir() or data.source not in ('auto', 'folder'):
        return ''
    images = sum(is_image(path) for path in folder.iterdir())
    return f'{folder.absolute()} has {images:,} images, but nothing says of which classes' if images else ''


def _check_not_another(root: pathlib.Path, name: str) -> None:
    """Raise UserError where `root` is itself torchvision's folder of another set."""
    folders = {**CifarPickles.FOLDERS, **IdxFiles.FOLDERS}
    for other, folder in folders.items():
        if other != name and root.resolve().as_posix().endswith('/' + folder):
            raise UserError(
                f'{root} contains {other}, not {name}; set --config.data.name={other} '
                'or point --config.data.data_dir elsewhere'
            )


def _described(root: pathlib.Path) -> str:
    """The folder and which sets are in it."""
    if not root.is_dir():
        return f'{root.absolute()} (no such folder)'
    found = {path.parent.parent.name for path in root.glob('*/*/dataset_info.json')}
    found |= {
        name
        for kind in (CifarPickles, IdxFiles)
        for name, folder in kind.FOLDERS.items()
        if (root / folder).is_dir()
    }
    return f'{root.absolute()} (contains {", ".join(sorted(found)) or "no data set"})'


def _advice(data: Any) -> str:
    own = data.source == 'folder' or (data.data_dir and data.name not in OFFICIAL)
    layout = ' that contains CLASS/*.png, train/CLASS/*.png or labels.csv' if own else ''
    return (
        f'point to it with --config.data.data_dir=DIR{layout}, '
        f'or train on the embedded digits: {_with_digits()}'
    )


def _with_digits() -> str:
    """This command with the variation :digits of its config file; else the setting."""
    command = list(sys.argv[1:])
    for i, argument in enumerate(command):
        flag, equals, value = argument.partition('=')
        if flag.lstrip('-') == 'config' and (equals or i + 1 < len(command)):
            config = value if equals else command[i + 1]
            varied = f'{config},digits' if ':' in config else f'{config}:digits'
            command[i if equals else i + 1] = f'{flag}={varied}' if equals else varied
            return f'python -m {provenance.program() or "train"} {shlex.join(command)}'
    return "data.name='digits'"
