"""Downloads a data set and writes it as TFDS reads it: `python -m train.prepare cifar10 [--data_dir DIR]`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from train import cli
from train.data import locate
from train.data.download import write_tfds


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and prepares the set."""
    parser = argparse.ArgumentParser(
        'python -m train.prepare', description='Download a data set and write it as TFDS reads it.'
    )
    parser.add_argument('name', help='cifar10, cifar100, mnist, fashion_mnist, or another TFDS set')
    parser.add_argument('--data_dir', help='default: $TFDS_DATA_DIR or ~/tensorflow_datasets')
    arguments = parser.parse_args(argv[1:])
    data_dir = locate.roots(arguments.data_dir or '')[0]
    folder = write_tfds.prepare(arguments.name, pathlib.Path(data_dir))
    print(f'{arguments.name}: ready in {folder}')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
