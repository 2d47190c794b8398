"""The golden numbers of `tests/golden`, with their inputs and parameters drawn by rule."""

import json
import pathlib
import re
import zlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import flaxnets
from flaxnets import interop, registry
from flaxnets.interop import conversion

FOLDER = pathlib.Path(__file__).parent / 'golden'
NAMES = sorted(path.stem for path in FOLDER.glob('*.json'))
CLASSES = {'vit': 5}
MNIST = {'mlp', 'mnist_cnn'}
NO_DROPOUT = {'profiled_cnn': {'dropout': (0.0, 0.0)}}


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        return values / np.sqrt(np.prod(shape[1:]))
    return 0.05 * values + (1.0 if re.search(r'(bn\d?|norm\d?)\.weight$', name) else 0.0)


def summary(values: np.ndarray) -> list[float]:
    projection = values.ravel() @ np.random.default_rng(7).standard_normal(values.size)
    return [values.sum(), np.linalg.norm(values), projection]


class Case:
    def __init__(self, name: str):
        self.data = json.loads((FOLDER / f'{name}.json').read_text())
        self.name = self.data['model']
        self.classes = CLASSES.get(self.name, 10)
        self.image_shape = (28, 28, 1) if self.name in MNIST else (32, 32, 3)
        self.unused = set(self.data['unused_parameters'])

    def model(self, dtype=jnp.float64) -> nnx.Module:
        options = {'num_classes': self.classes, 'image_shape': self.image_shape, 'param_dtype': dtype}
        options |= self.data['options'] | NO_DROPOUT.get(self.name, {})
        # Abstract: every value is loaded, and computing initial ones takes seconds.
        model = nnx.eval_shape(lambda: flaxnets.create_model(self.name, rngs=nnx.Rngs(0), **options))
        return interop.from_torch(model, self.state_dict(model))

    def state_dict(self, model: nnx.Module) -> dict[str, np.ndarray]:
        """The case's parameters, beside the buffers a fresh PyTorch model has."""
        fill = {'running_mean': np.zeros, 'running_var': np.ones, 'num_batches_tracked': np.zeros}
        buffers = {
            key: fill[kind](shape, dtype)
            for key, (shape, dtype) in conversion.expected_shapes(model, registry.torch_rows(model)).items()
            if (kind := key.rpartition('.')[2]) in fill
        }
        return {name: parameter(name, tuple(shape)) for name, shape in self.data['parameters']} | buffers

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None, list[np.ndarray]]]:
        """(images NHWC, labels, candidates) of every step, then the evaluation's, without labels."""
        rng = np.random.default_rng(20)
        height, width, channels = self.image_shape
        for step in [*self.data['steps'], None]:
            images = rng.standard_normal((4, channels, height, width)).transpose(0, 2, 3, 1)
            labels = None if step is None else rng.integers(0, self.classes, 4)
            if step is not None:
                np.testing.assert_array_equal(labels, step['labels'])
            drawn = (step or self.data['evaluation']).get('candidates') or []
            pools = [rng.permutation(256)[:64] for _ in drawn]
            np.testing.assert_array_equal(np.asarray(pools), np.asarray(drawn))
            yield images, labels, pools

    def optimizer(self) -> optax.GradientTransformation:
        settings = dict(self.data['optimizer'])
        return getattr(optax, settings.pop('name'))(settings.pop('lr'), **settings)


def loss(case: Case, logits: jax.Array, labels: np.ndarray) -> jax.Array:
    if case.data['softmax_before_cross_entropy']:
        logits = jax.nn.softmax(logits)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
