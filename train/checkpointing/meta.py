"""What a checkpoint contains in addition to the state."""

import dataclasses
import importlib.metadata
import json
from typing import Any

from flaxnets.interop.model_card import ModelCard
from train.metrics import EpochSums

PACKAGES = ('flaxnets', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def versions() -> dict[str, str]:
    """The packages whose versions decide what a run computes."""
    return {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)}


def _installed(name: str) -> bool:
    return bool(list(importlib.metadata.distributions(name=name)))


@dataclasses.dataclass
class Meta:
    """All that is needed to read a checkpoint's state and to continue from it.

    Attributes:
        config: the run's config.
        card: the model and how to feed it; None in checkpoints older than model cards.
        data: the fingerprint of each split's images; empty where weights were converted.
        history: a row for each epoch that is done, as in metrics.jsonl.
        sums: of the current epoch.
        best: the best value so far of `checkpoint.metric`, by its name in the history.
        versions: of the packages that computed the state.
        init_digest: of the weights that the run began with, where it has `init_from`.
    """

    config: dict[str, Any]
    card: ModelCard | None
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sums: EpochSums = dataclasses.field(default_factory=EpochSums)
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=versions)
    init_digest: str = ''

    def epoch(self, step: int, steps_per_epoch: int) -> int:
        """The current epoch at `step`, from 0. An epoch that is not evaluated yet, and has sums, is not
        over."""
        return (step - bool(self.sums.steps)) // steps_per_epoch

    def to_json(self) -> dict[str, Any]:
        """Plain values, as copies: training changes the originals while orbax writes."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> 'Meta':
        """Reads `to_json`'s values, and those of checkpoints written by earlier versions."""
        card = values.get('card')
        return cls(
            config=values['config'],
            card=ModelCard.from_json(json.dumps(card)) if card else None,
            data=values['data'],
            history=values['history'],
            sums=EpochSums.from_json(values['sums']),
            best=values['best'],
            versions=values['versions'],
            init_digest=values.get('init_digest', ''),
        )
