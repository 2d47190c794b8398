"""Why results differ from the published ones: one or two sentences for an experiment, tested by runs."""

import json
import pathlib
from collections.abc import Iterable

from train.reproduction.table import Row

TEXTS: dict[str, str] = json.loads((pathlib.Path(__file__).parent / 'explanations.json').read_text())


def of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(experiment, explanation) of the rows that differ."""
    return [
        (row.experiment.short, TEXTS.get(row.experiment.name, 'not explained yet'))
        for row in rows
        if row.verdict() == 'differs' and not row.experiment.variation_of
    ]
