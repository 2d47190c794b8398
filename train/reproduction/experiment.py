"""An experiment: a published run that a config repeats."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run of a document: `config` as on the command line, and the document's figures.

    `choice` says what the document leaves open and is chosen here; `variation_of` marks the same experiment
    under another choice. `needs_weights` marks one that starts from weights which only the user can give.
    `compares` is the published score that decides the verdict.
    """

    name: str
    config: str
    published: dict[str, Any]
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    choice: str = ''
    variation_of: str = ''
    needs_weights: bool = False
    compares: str = 'test_accuracy'

    @property
    def suite(self) -> str:
        """The suite it belongs to."""
        return self.name.partition('/')[0]

    @property
    def short(self) -> str:
        """Its name within the suite."""
        return self.name.partition('/')[2]
