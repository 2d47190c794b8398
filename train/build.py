"""The model that a config describes: with its values or without, its card, the parameters that stay fixed."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import flaxnets
from flaxnets.errors import UserError
from flaxnets.interop import matching
from flaxnets.interop.model_card import ModelCard
from train import data, state
from train.config import ConfigDict, model_options
from train.data import statistics
from train.runtime import compilations


def arguments(config: ConfigDict, images: data.ImageSet | data.ImageSpec) -> dict[str, Any]:
    """What the config's model is built with for images like these; its own options come first."""
    shape = images.image_shape
    given: dict[str, Any] = {'num_classes': len(images.class_names), 'image_shape': shape}
    given |= model_options(config)
    if given['num_classes'] < len(images.class_names):
        raise UserError(
            f'config.model.num_classes: expected at least the {len(images.class_names)} classes of '
            f'{images.name}, got {given["num_classes"]}'
        )
    return given


def create_model(config: ConfigDict, images: data.ImageSet | data.ImageSpec) -> nnx.Module:
    """The config's model for images like these."""
    return builder(config, images)(config.seed)


def abstract_model(config: ConfigDict, images: data.ImageSet | data.ImageSpec) -> nnx.Module:
    """The same without values."""
    given = _given(config, images)
    with _explained(given):
        return nnx.eval_shape(lambda: flaxnets.create_model(**given, rngs=nnx.Rngs(0)))


def builder(config: ConfigDict, images: data.ImageSet | data.ImageSpec) -> Callable[[int], nnx.Module]:
    """Creates the config's model with the initial values of a seed; compiled once for all seeds."""
    given = _given(config, images)
    graphs: list[nnx.GraphDef] = []

    def create(key: jax.Array) -> nnx.State:
        graph, values = nnx.split(flaxnets.create_model(**given, rngs=nnx.Rngs(key)))
        graphs.append(graph)
        return values

    # As one program: otherwise each shape of parameter would be compiled separately.
    compiled = compilations.quickly(create)

    def build(seed: int) -> nnx.Module:
        with _explained(given):
            values = compiled(jax.random.key(seed))
        return nnx.merge(graphs[0], values)

    return build


@contextlib.contextmanager
def _explained(given: dict[str, Any]) -> Iterator[None]:
    """An option of the wrong kind, such as a word for a pair, as a `UserError`."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        raise UserError(f'config.model: {given["name"]} cannot be built with {given}: {error}') from error


def _given(config: ConfigDict, images: data.ImageSet | data.ImageSpec) -> dict[str, Any]:
    """The arguments of `flaxnets.create_model`, without `rngs`."""
    dtypes = {
        'float32': (jnp.float32, jnp.float32),
        'bfloat16': (jnp.bfloat16, jnp.float32),
        'float16': (jnp.float16, jnp.float32),
        'float64': (jnp.float64, jnp.float64),
    }
    dtype, param_dtype = dtypes[config.precision]
    types = {'dtype': dtype, 'param_dtype': param_dtype}
    return {'name': config.model.name} | arguments(config, images) | types


def model_card(config: ConfigDict, model: nnx.Module, images: data.ImageSet | data.ImageSpec) -> ModelCard:
    """What is needed to use the weights of the config's `model`, without metrics."""
    sets = {images.split: images} if isinstance(images, data.ImageSet) else {}
    config = statistics.resolved(config, sets)
    height, width, channels = images.image_shape
    return ModelCard(
        architecture=config.model.name,
        options=arguments(config, images),
        parameters=flaxnets.count_parameters(model),
        preprocessing={
            'mean': config.data.mean or (0.0,) * channels,
            'std': config.data.std or (1.0,) * channels,
            'size': (height, width),
            'class_names': images.class_names,
        },
        config=config.to_dict(),
    )


def frozen_parameters(config: ConfigDict, model: nnx.Module) -> frozenset[str]:
    """The parameters that `optimizer.freeze` names; running statistics are still updated."""
    if not config.optimizer.freeze:
        return frozenset()
    params = state.split(model)[1]
    named = matching.selected(model, [config.optimizer.freeze], option='config.optimizer.freeze')
    frozen = named.intersection(params)
    if len(frozen) in (0, len(params)):
        which = 'all parameters' if frozen else 'no parameter'
        raise UserError(
            f'config.optimizer.freeze: {config.optimizer.freeze!r} names {which}; name some of them'
        )
    return frozen
