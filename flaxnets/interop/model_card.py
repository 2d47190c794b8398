"""What is stored with exported weights, so that they can be used without the config."""

import dataclasses
import json
from typing import Any

from flax import nnx

from flaxnets import registry
from flaxnets.errors import UserError


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A model and how to feed it.

    Attributes:
        architecture: one of `list_models()`.
        options: what `create_model` needs in addition, such as `num_classes` and `image_shape`.
        parameters: number of trained values.
        preprocessing: 'mean' and 'std' per channel, for pixels in [0, 1]; 'size' (height, width);
            'class_names' in the order of the logits.
        metrics: what the model reached, e.g. {'test_accuracy': 61.2}.
        config: the training config.
    """

    architecture: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    preprocessing: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    def create_model(self, *, rngs: nnx.Rngs | None = None) -> nnx.Module:
        """The model with fresh values.

        Raises:
            UserError: the card names code, 'module:builder', that you have not named yourself.
        """
        registry.check_named_in_file(self.architecture, 'the model card')
        return registry.create_model(self.architecture, rngs=rngs or nnx.Rngs(0), **self.options)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> 'ModelCard':
        """Reads `to_json`'s text; keys of later versions are left out.

        Raises:
            UserError: it is not a model card.
        """
        try:
            values = _frozen(json.loads(text))
            card = cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})
        except (ValueError, TypeError, RecursionError):
            card = cls('')
        dictionaries = (card.options, card.preprocessing, card.metrics, card.config)
        if not isinstance(card.architecture, str) or not all(isinstance(d, dict) for d in dictionaries):
            card = cls('')
        if not card.architecture:
            raise UserError(
                "model card: expected JSON with an 'architecture' and its 'options', got something else"
            )
        return card


def _frozen(value: Any) -> Any:
    """Lists as tuples at every depth: JSON has no tuples, and options are made of them."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
