"""The contents of a report: one state of a run, and its predictions for one split."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from train.config import ConfigDict
from train.data import augment
from train.data.imageset import ImageSet


@dataclasses.dataclass(frozen=True)
class Results:
    """One state of a run and its predictions for the images of a split.

    Attributes:
        workdir: the run's folder.
        config: the run's config.
        summary: the scores of the state for `images`, and the run's facts, by the keys of summary.json.
        history: the rows of metrics.jsonl.
        images: the split that was scored.
        probabilities: softmax of the logits, in the order of `images`.
        model: the trained model, in evaluation mode.
        initial: the same with its initial values; None where these are not known any more.
        step: updates made.
    """

    workdir: pathlib.Path
    config: ConfigDict
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    images: ImageSet
    probabilities: Float[np.ndarray, 'images classes']
    model: nnx.Module
    initial: nnx.Module | None = None
    step: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data's classes."""
        return tuple(self.images.class_names)

    @functools.cached_property
    def shown(self) -> list[int]:
        """Images that pictures of the model's inside show: the first of three different classes."""
        firsts = [
            int(np.flatnonzero(self.images.labels == label)[0]) for label in np.unique(self.images.labels)
        ]
        return sorted(firsts)[:3]

    def pixels(self, indices: Any) -> UInt8[np.ndarray, 'batch height width channels']:
        """Images as stored."""
        return self.images.gather(np.asarray(indices))

    def inputs(self, indices: Any) -> Float[Array, 'batch height width channels']:
        """Images as the model sees them."""
        pixels = self.pixels(indices)
        mean, std = (
            self.config.data[key] or (default,) * pixels.shape[-1]
            for key, default in (('mean', 0.0), ('std', 1.0))
        )
        return augment.normalise(jax.numpy.asarray(pixels), mean, std)
