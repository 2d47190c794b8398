"""The table of models: names to constructors, in the documents' order.

A new architecture is one line here and one file beside this one.
"""

import dataclasses
import difflib
import fnmatch
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from flaxnets.errors import UserError
from flaxnets.layers.attention import AttentionLayer
from flaxnets.layers.branching import BranchingLayer
from flaxnets.layers.nearest import NearestLayer
from flaxnets.models.block_cnn import BlockCNN
from flaxnets.models.convnn import convolution, stack_of
from flaxnets.models.expert_cnn import ExpertCNN
from flaxnets.models.mnist import MLP, MNISTCNN
from flaxnets.models.profiled_cnn import ProfiledCNN
from flaxnets.models.vgg import VGG16
from flaxnets.models.vit import ViT
from flaxnets.options import options_of


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model: `build(**options)` makes it; `fixed` are options that its name stands for."""

    build: Callable[..., nnx.Module]
    document: str
    meaning: str
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)

    def options(self) -> dict[str, inspect.Parameter]:
        """The options a user may set, with their defaults."""
        hidden = {'rngs', *self.fixed}
        return {name: p for name, p in options_of(self.build).items() if name not in hidden}


# The pool of all tokens has no number of candidates to choose.
_ALL = {'pool': 'all', 'num_candidates': 64}
_RANDOM = {'pool': 'random'}
_SPATIAL = {'pool': 'spatial'}

MODELS: dict[str, Entry] = {
    'cnn': Entry(stack_of(convolution), 'seed 000', 'convolutions, the baseline of the ConvNN family'),
    'attention': Entry(stack_of(AttentionLayer), 'seed 000', 'self-attention between all tokens'),
    'convnn_all': Entry(
        stack_of(NearestLayer), 'seed 000', 'convolution over the nearest of all tokens', _ALL
    ),
    'convnn_random': Entry(
        stack_of(NearestLayer), 'seed 000', 'convolution over the nearest of random tokens', _RANDOM
    ),
    'convnn_spatial': Entry(
        stack_of(NearestLayer), 'seed 000', 'convolution over the nearest tokens of a grid', _SPATIAL
    ),
    'convnn_attn': Entry(
        stack_of(NearestLayer, projection='qkv'),
        'seed 000',
        'as convnn_random, between queries, keys and values mapped across tokens',
        _RANDOM,
    ),
    'branching_all': Entry(
        stack_of(BranchingLayer), 'seed 000', 'a convolution beside the layer of convnn_all', _ALL
    ),
    'branching_random': Entry(
        stack_of(BranchingLayer), 'seed 000', 'a convolution beside the layer of convnn_random', _RANDOM
    ),
    'branching_spatial': Entry(
        stack_of(BranchingLayer), 'seed 000', 'a convolution beside the layer of convnn_spatial', _SPATIAL
    ),
    'branching_attn': Entry(
        stack_of(BranchingLayer, projection='qkv'),
        'seed 000',
        'a convolution beside the layer of convnn_attn',
        _RANDOM,
    ),
    'block_cnn': Entry(
        BlockCNN, 'seed 001', 'a plain chain of convolution blocks, with or without batch norm'
    ),
    'expert_cnn': Entry(ExpertCNN, 'seed 002', 'parallel convolutions, weighted for each image'),
    'vit': Entry(ViT, 'seed 003', 'a small vision transformer, each head on its own channels'),
    'profiled_cnn': Entry(ProfiledCNN, 'seed 003', 'five convolutions with batch norm; pruned, four'),
    'vgg16': Entry(VGG16, 'seed 003', "torchvision's VGG16; pruned, without its second convolution"),
    'mlp': Entry(MLP, 'seed 004', 'fully connected, two hidden layers'),
    'mnist_cnn': Entry(MNISTCNN, 'seed 004', 'three convolutions; residual, pooling and activation variants'),
}


def register(
    name: str, build: Callable[..., nnx.Module], *, document: str, meaning: str, **fixed: Any
) -> None:
    """Adds a model of your own under `name`, so that configs and `create_model` know it."""
    MODELS[name] = Entry(build, document, meaning, fixed)


def list_models(pattern: str = '*') -> list[str]:
    """Names of the registered models that match a shell pattern, in the documents' order.

    >>> list_models('branching*')
    ['branching_all', 'branching_random', 'branching_spatial', 'branching_attn']
    """
    return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]


def near(name: str, names: Iterable[str]) -> str:
    """' Did you mean ...?' with the nearest names, or the choices where none is near."""
    names = list(names)
    matches = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f'Did you mean {" or ".join(matches)}?' if matches else f'Known: {", ".join(names)}.'


def entry(name: str) -> Entry:
    """The table's row for `name`, or the builder that 'module:name' imports; a `UserError` with near
    matches if there is none."""
    if ':' in name:
        return _imported(name)
    if name not in MODELS:
        raise UserError(f'model.name: there is no model {name!r}. {near(name, MODELS)}')
    return MODELS[name]


def _imported(name: str) -> Entry:
    """The row for a builder in a module of the user's."""
    module, _, attribute = name.partition(':')
    try:
        build = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f'model.name: expected module:builder of a file in the current folder or on PYTHONPATH, '
            f'got {name!r}: {error}'
        ) from error
    return Entry(build, 'yours', build.__doc__ or '')


def create_model(name: str, *, rngs: nnx.Rngs, **options: Any) -> nnx.Module:
    """Builds a registered model.

    Args:
        name: one of `list_models()`, or 'module:builder' for one of your own.
        rngs: the initial values' random streams, `nnx.Rngs(0)`; the model keeps none of it.
        **options: the model's own, `num_classes` and `image_shape` (height, width, channels) among
            them; `python -m train.models NAME` lists them.

    Returns:
        The model in training mode: `model(images, rngs=...)`, [B, H, W, C] to [B, num_classes].

    Raises:
        UserError: an unknown name or option, or a value the model cannot have.
    """
    known = entry(name)
    for option in options:
        if option not in known.options():
            raise UserError(f'model.{option}: {name} has no such option. {near(option, known.options())}')
    return known.build(**known.fixed, **options, rngs=rngs)


def count_parameters(model: nnx.Module, *, published: bool = False) -> int:
    """Number of trained values; with `published`, plus those the original allocates and never uses
    (see `unused_parameters` in `layers/tokens.py`), which the documents' counts include."""
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    if published:
        count += sum(getattr(module, 'unused_parameters', 0) for _, module in nnx.iter_modules(model))
    return count
