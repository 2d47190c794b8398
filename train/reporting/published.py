"""The published run that a config repeats, to be drawn beside ours."""

from typing import Any

from flaxnets import registry
from train import config as options
from train import published as documents

# Options that follow from the data, and one that the documents do not state.
UNDECIDED = ('num_classes', 'image_shape', 'oversight')


def published(config: options.ConfigDict) -> dict[str, Any] | None:
    """Figures of the published run of this model with these options, optimiser, data and batch size.

    As `train.published.figures` gives them; None where no document has such a run. How long ours is and its
    seed do not matter.
    """
    if config.data.limit:
        return None
    for file in documents.files():
        recipe = documents.document(file)['recipe']
        for run in documents.document(file)['runs']:
            if same_data(config, documents.document(file)['dataset'], recipe) and same(config, run, recipe):
                return documents.figures(run, recipe)
    return None


def same_data(config: options.ConfigDict, dataset: str, recipe: dict[str, Any]) -> bool:
    """Whether the images and the batch size are the document's, as far as it states them."""
    if dataset.split(',')[0] != config.data.name or ('classes' in dataset) != bool(config.data.classes):
        return False
    batch = recipe.get('batch_size')
    return not isinstance(batch, int) or batch == config.data.batch_size


def same(config: options.ConfigDict, run: dict[str, Any], recipe: dict[str, Any]) -> bool:
    """Whether model, its options and optimiser are the run's; options it does not name have their defaults.

    The documents do not mention their `oversight`s, so both choices are compared with them.
    """
    if run['model'] != config.model.name:
        return False
    known = registry.entry(config.model.name).options()
    named = {name: run.get(name, parameter.default) for name, parameter in known.items()}
    ours = {name: parameter.default for name, parameter in known.items()} | options.model_options(config)
    if any(ours[name] != named[name] for name in named if name not in UNDECIDED):
        return False
    stated = {
        'name': run.get('optimizer', recipe.get('optimizer')),
        'learning_rate': run.get('lr', recipe.get('lr')),
    }
    return all(config.optimizer[key] == value for key, value in stated.items() if fits(key, value))


def fits(key: str, value: Any) -> bool:
    """Whether a document states this setting; else the value is a remark in words."""
    return value in options.OPTIONS['optimizer.name'].choices if key == 'name' else isinstance(value, float)
