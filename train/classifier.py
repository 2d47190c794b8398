"""A trained model that can be used on images: `train.load(workdir)`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image
from scipy.special import softmax

from flaxnets import registry
from flaxnets.errors import UserError
from flaxnets.interop.model_card import ModelCard
from train import step
from train.checkpointing import init_from
from train.data import augment
from train.data.decode import decode_file, fit, from_picture
from train.state import split

Picture = str | pathlib.Path | Image.Image | np.ndarray


@dataclasses.dataclass
class Classifier:
    """A model in evaluation mode, its preprocessing and the names of its classes.

    Calling it on images gives the probabilities [images, classes]: the softmax of the logits. An image is
    an array [H, W, C] or [H, W] of bytes, a Pillow image, or a file's path; it is converted to the
    model's size and channels, as the images of a data set are. Batch normalisation uses running statistics.

        classifier = train.load('runs/mine')
        classifier.class_names[classifier(['cat.png'])[0].argmax()]
    """

    model: nnx.Module
    card: ModelCard
    batch_size: int = 64

    def __post_init__(self):
        self.model.eval()
        self._structure, params, stats = split(self.model)
        self._values = params, stats
        self._logits = jax.jit(self._compute)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return tuple(self.card.preprocessing['class_names'])

    def __call__(self, images: Sequence[Picture] | np.ndarray) -> np.ndarray:
        """Probabilities [images, classes]; classes that the model has beyond `class_names` are left out."""
        return softmax(self.logits(images).astype(np.float64), axis=-1)[:, : len(self.class_names)]

    def logits(self, images: Sequence[Picture] | np.ndarray) -> np.ndarray:
        """Logits [images, classes]."""
        pixels = np.stack([self.prepare(image) for image in images])
        parts = []
        for index, start in enumerate(range(0, len(pixels), self.batch_size)):
            batch = pixels[start : start + self.batch_size]
            padding = np.zeros((self.batch_size - len(batch), *batch.shape[1:]), np.uint8)
            logits = self._logits(self._values, np.concatenate([batch, padding]), index)
            parts.append(np.asarray(logits)[: len(batch)])
        return np.concatenate(parts)

    def prepare(self, image: Picture) -> np.ndarray:
        """The image's bytes [H, W, C] at the size and with the channels that the model takes.

        Raises:
            UserError: it is no image.
        """
        if isinstance(image, (str, pathlib.Path)):
            pixels = decode_file(pathlib.Path(image).expanduser())
        elif isinstance(image, Image.Image):
            pixels = from_picture(image, 'the image')
        else:
            pixels = np.asarray(image)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
                raise UserError(
                    'image: expected bytes [height, width, 1 or 3], a Pillow image or a path, got '
                    f'{pixels.dtype} {list(pixels.shape)}; scale floats to 0..255 and cast them to uint8'
                )
        return fit(pixels, tuple(self.card.preprocessing['size']), len(self.card.preprocessing['mean']))

    def _compute(self, values: Any, pixels: jax.Array, index: jax.Array) -> jax.Array:
        about = self.card.preprocessing
        images = augment.normalise(pixels, about['mean'], about['std'], jnp.float32)
        return self._structure.merge(*values)(images, rngs=step.evaluation_rngs(index))


def load(workdir: str | pathlib.Path, *, checkpoint: str = 'best', model: str | None = None) -> Classifier:
    """The model of a run's checkpoint ('best', 'last' or a step), or of an exported .safetensors file.

    A model of your own, 'module:builder', is imported only if you name it too, as `model` or before.

    Raises:
        UserError: there is no run, no checkpoint, or none that says how to feed its model.
    """
    if model is not None:
        registry.entry(model)
    weights = init_from.read(workdir, checkpoint)
    card = weights.card
    if card is None or 'class_names' not in card.preprocessing:
        raise UserError(
            f'{workdir}: expected a checkpoint with a model card, got one without; continue the run for an '
            'epoch, or convert the file with python -m train.convert --config'
        )
    built = card.create_model()
    structure, *parts = split(built)
    values = weights.values(built, weights.match(built), tuple(parts))
    settings = card.config.get('data', {})
    batch_size = settings.get('eval_batch_size') or settings.get('batch_size') or Classifier.batch_size
    return Classifier(structure.merge(*values), card, batch_size)
