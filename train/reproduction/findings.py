"""How records decide a statement of a document; the statements are in `statements.py`."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable

from train.reproduction.records import Record
from train.reproduction.table import score


class Missing(Exception):
    """An experiment without a record."""


class Runs:
    """Records by experiment, and the quantities that the statements are about, as means over seeds."""

    def __init__(self, records: Iterable[Record]):
        self.records = list(records)
        self.fewest: int | None = None  # seeds of an experiment that was asked for

    def of(self, name: str) -> list[Record]:
        """The records of an experiment."""
        found = [record for record in self.records if record['experiment'] == name]
        if not found:
            raise Missing(name)
        self.fewest = min(len(found), self.fewest or len(found))
        return found

    def mean(self, name: str, key: str = 'test_accuracy') -> float:
        """The mean of a final score over seeds."""
        return statistics.fmean(value for r in self.of(name) if (value := score(r, key)) is not None)

    def curve(self, name: str, key: str) -> list[float]:
        """The mean over seeds, epoch by epoch."""
        return [
            statistics.fmean(values) for values in zip(*(r['curve'][key] for r in self.of(name)), strict=True)
        ]

    def first(self, name: str, accuracy: float) -> int | None:
        """The first epoch, from 1, whose test accuracy reaches `accuracy`."""
        curve = self.curve(name, 'test_accuracy')
        return next((epoch for epoch, value in enumerate(curve, 1) if value >= accuracy), None)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A statement of a document, and what decides it: (confirmed, figures)."""

    statement: str
    document: str
    check: Callable[[Runs], tuple[bool, str]]


@dataclasses.dataclass(frozen=True)
class Result:
    """A finding with its answer; `confirmed` is None where records are missing, and `figures` names those."""

    finding: Finding
    confirmed: bool | None
    figures: str


def decide(findings: Iterable[Finding], records: Iterable[Record]) -> list[Result]:
    """Every finding, decided as far as the records go."""
    records = list(records)
    results = []
    for finding in findings:
        runs = Runs(records)
        try:
            confirmed, figures = finding.check(runs)
            seeds = f'{runs.fewest} seed' + 's' * (runs.fewest != 1)
            results.append(Result(finding, confirmed, f'{figures} ({seeds})'))
        except Missing as missing:
            results.append(Result(finding, None, f'needs {missing}'))
    return results
