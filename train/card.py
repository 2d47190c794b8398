"""The model card of a run: what others need to know to use its weights."""

from flax import nnx

from flaxnets import count_parameters
from flaxnets.interop.model_card import ModelCard
from train.config import ConfigDict
from train.data import ImageSet
from train.experiment import arguments


def create(config: ConfigDict, model: nnx.Module, images: ImageSet) -> ModelCard:
    """The card of the config's `model` for images like these, without metrics."""
    height, width, channels = images.image_shape
    return ModelCard(
        architecture=config.model.name,
        options=arguments(config, images),
        parameters=count_parameters(model),
        preprocessing={
            'mean': config.data.mean or (0.0,) * channels,
            'std': config.data.std or (1.0,) * channels,
            'size': (height, width),
            'class_names': images.class_names,
        },
        config=config.to_dict(),
    )
