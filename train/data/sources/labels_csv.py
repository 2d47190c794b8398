"""Images with their classes in a table: `labels.csv` with the columns file and label, next to the images."""

import csv
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from flaxnets.errors import UserError
from train.data.decode import decode_file
from train.data.sources.image_folder import SPLIT_OF, SPLITS, is_image, visible_files
from train.data.sources.records import Records, files_version, printable

NAME = 'labels.csv'


class Row(NamedTuple):
    """An image of the table."""

    file: pathlib.Path
    label: str
    split: str


class LabelledFiles:
    """`labels.csv`: a line `file,label` for each image, and perhaps its `split`; paths relative to the table.

    The first line names the columns, in any order; others are not read. Without a column `split` all images
    are for training. Classes are the labels of the training images, in the order of their names, or of their
    numbers if all are numbers; images keep the table's order. Separated by commas, semicolons or tabs.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.table = folder / NAME

    @classmethod
    def find(cls, folder: pathlib.Path) -> 'LabelledFiles | None':
        """The folder, if there is a table in it."""
        return cls(folder) if (folder / NAME).is_file() else None

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that the table names, else 'train'."""
        there = {row.split for row in self._rows}
        return tuple(split for split in SPLITS if split in there)

    @property
    def version(self) -> str:
        """A digest of the paths, sizes and times of change of the table and all images in it."""
        return files_version([self.table, *(row.file for row in self._rows)])

    def where(self, split: str) -> str:
        """The table, and how many images next to it are not in it."""
        listed = {os.path.realpath(row.file) for row in self._rows}
        there = [path for path in visible_files(self.folder) if is_image(path)]
        others = sum(os.path.realpath(path) not in listed for path in there)
        return printable(f'{self.table}' + (f' ({others} images next to it are not in it)' if others else ''))

    def read(self, split: str) -> Records:
        """The records of a split."""
        training = 'train' if 'train' in self.splits else split
        names = sorted({row.label for row in self._rows if row.split == training}, key=_by_number)
        rows = [row for row in self._rows if row.split == split]
        for row in rows:
            if row.label not in names:
                raise UserError(
                    f'{self.table}: {row.file.name} is {row.label!r}, which no training image is '
                    f'({", ".join(names)[:200]})'
                )
        items = ((decode_file(row.file), names.index(row.label)) for row in rows)
        return Records(len(rows), items, tuple(names), str(self.table))

    @functools.cached_property
    def _rows(self) -> list[Row]:
        seen: dict[pathlib.Path, int] = {}
        rows = []
        for number, cells in self._cells():
            where = f'{self.table}, line {number}'
            name, label = (str(cells.get(key) or '').strip() for key in ('file', 'label'))
            split = SPLIT_OF.get(str(cells.get('split') or 'train').strip().lower())
            if not name or not label or split is None:
                raise UserError(f'{where}: expected a file, a label and a split (if any), got {cells}')
            file = self.folder / name
            if not file.is_file():
                raise UserError(f'{where}: there is no file {printable(str(file))}')
            if file in seen:
                raise UserError(f'{where}: {name} is in line {seen[file]} already')
            seen[file] = number
            rows.append(Row(file, printable(label), split))
        if not rows:
            raise UserError(f'{self.table}: expected a line for each image, found none')
        return rows

    def _cells(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(line, {column: text}) of each line that is not empty."""
        # A byte order mark is what spreadsheets begin with; bytes that are no UTF-8 may name a file.
        with self.table.open(encoding='utf-8-sig', errors='surrogateescape', newline='') as stream:
            head = stream.readline()
            columns = [
                cell.strip().lower() for cell in next(csv.reader([head], delimiter=_separator(head)), [])
            ]
            if not {'file', 'label'} <= set(columns):
                raise UserError(
                    f'{self.table}: expected the columns file and label in its first line, '
                    f'got {printable(head.strip())[:100]!r}'
                )
            lines = csv.reader(stream, delimiter=_separator(head), skipinitialspace=True)
            try:
                for cells in lines:
                    if any(cells):
                        yield lines.line_num + 1, dict(zip(columns, cells, strict=False))
            except csv.Error as error:
                raise UserError(f'{self.table}, line {lines.line_num + 1}: {error}') from error


def _separator(head: str) -> str:
    return max(',;\t', key=head.count)


def _by_number(label: str) -> tuple[bool, int, str]:
    number = label.isdecimal() and label.isascii()
    return not number, int(label) if number else 0, label
