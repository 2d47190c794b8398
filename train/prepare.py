"""Writes a data set as TFDS reads it, downloaded or from files: `python -m train.prepare --help`."""

import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from train import cli
from train.arguments import Parser

EXAMPLES = """
  python -m train.prepare cifar10
  python -m train.prepare cifar10 --from ~/pytorch/data --data_dir ~/new
  python -m train.prepare flowers --from ~/pictures/flowers --data_dir ~/records --format tfrecord

Training reads both formats. tfds.data_source needs ArrayRecord, tfds.load TFRecord.
"""


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and prepares the set."""
    parser = Parser(
        'train.prepare', 'Write a data set as TFDS reads it: downloaded, or from what is on disk.', EXAMPLES
    )
    parser.add_argument('name', help='cifar10, cifar100, mnist, fashion_mnist, another TFDS set, or your own')
    parser.add_argument(
        '--data_dir', help='where to write it (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)'
    )
    parser.add_argument(
        '--from',
        dest='source',
        metavar='FOLDER',
        help='read it there, as data.data_dir, and download nothing',
    )
    parser.add_argument(
        '--format', choices=('array_record', 'tfrecord'), default='array_record', help='default: array_record'
    )
    args = parser.parse_args(argv[1:])
    from train.data import locate  # not before --help: JAX takes a second to import

    folder = prepare(args.name, locate.roots(args.data_dir or '')[0], args.source, args.format)
    print(f'{args.name}: ready in {folder}')


def prepare(name: str, data_dir: pathlib.Path, source: str | None, format: str) -> pathlib.Path:
    """The TFDS directory of the set `name` under `data_dir`, written if it is not there.

    Raises UserError for a set that is nowhere, and if there is a directory in another format or, with a
    `source`, any directory.
    """
    from train.data.download import formats, from_source, write_tfds
    from train.data.sources.tfds import TfdsDirectory, find_directory

    there = find_directory(data_dir, name) if data_dir.is_dir() else None
    if there is not None and source is None:
        if formats.format_of(there) == format:
            return there
        raise UserError(
            f'{there} is {formats.format_of(there)}; to have it as {format} too, run '
            f'`python -m train.prepare {name} --from {data_dir} --data_dir DIR --format {format}`'
        )
    found = None if source is None else _find(name, source)
    if isinstance(found, TfdsDirectory):
        # set/version or set/config/version
        parts = found.folder.resolve().parts[-2 if found.folder.parent.name == name.split('/')[0] else -3 :]
        return formats.rewrite(found.folder, data_dir.joinpath(*parts), format)
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.prepare-', dir=data_dir) as temporary:
        # TFDS writes ArrayRecord without TensorFlow, but not TFRecord.
        to = data_dir if format == 'array_record' else pathlib.Path(temporary)
        if found is None:
            written = write_tfds.prepare(name, to, data_dir / 'downloads')
        else:
            written = from_source.write(found, name, to)
        if format == 'array_record':
            return written
        return formats.rewrite(written, data_dir / written.relative_to(to), format)


def _find(name: str, folder: str) -> Any:
    """The set `name` in `folder`, in any form that training reads."""
    from train.config import defaults
    from train.data import locate

    settings = defaults().data
    settings.name, settings.data_dir, settings.download = name, folder, False
    try:
        return locate.find(settings)
    except locate.NotFound as error:
        raise UserError(
            f'{error.missing}; point --from to the folder that has it, or give images in folders of their '
            'classes a NAME of your own'
        ) from error


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
