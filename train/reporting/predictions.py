"""Predictions as a table: a line for each image, the class predicted, all probabilities."""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxnets.interop.atomic import write_text


def write(
    file: pathlib.Path,
    images: Mapping[str, Sequence[Any]],
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Writes the table; `images` are the columns that come first, {name: a value for each image}."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow([*images, 'prediction', *class_names])
    for about, row in zip(zip(*images.values(), strict=True), probabilities, strict=True):
        at = row.argmax()
        # A model may have more outputs than the data have classes.
        prediction = class_names[at] if at < len(class_names) else ''
        writer.writerow([*about, prediction, *(f'{p:.6f}' for p in row[: len(class_names)])])
    write_text(file, table.getvalue())
