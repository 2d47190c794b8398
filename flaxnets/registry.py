"""The table of models: from names to recipes, in the order of the documents (see docs/documents.md).

A new architecture is one line here, a file in `models/`, and one in `interop/maps/` with its PyTorch keys.
"""

import dataclasses
import difflib
import fnmatch
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets.errors import NoTorchMap, UserError
from flaxnets.interop import maps
from flaxnets.interop.layouts import Row, Variant
from flaxnets.layers.attention import AttentionLayer, AttentionOptions
from flaxnets.layers.branching import BranchingLayer, BranchingOptions
from flaxnets.layers.candidates import GridTokens, RandomTokens
from flaxnets.layers.conv import ConvOptions, conv_layer
from flaxnets.layers.nearest import NearestLayer, NearestOptions
from flaxnets.models.block_cnn import BlockCNN, BlockCNNOptions
from flaxnets.models.convnn import stack_of
from flaxnets.models.expert_cnn import ExpertCNN, ExpertCNNOptions
from flaxnets.models.framework_resnet import FrameworkResNet, FrameworkResNetOptions
from flaxnets.models.framework_vgg import FrameworkVGG, FrameworkVGGOptions
from flaxnets.models.framework_vit import FrameworkViT, FrameworkViTOptions
from flaxnets.models.mnist import MLP, MNISTCNN, MLPOptions, MNISTCNNOptions
from flaxnets.models.profiled_cnn import ProfiledCNN, ProfiledCNNOptions
from flaxnets.models.vgg import VGG16, VGG16Options
from flaxnets.models.vit import ViT, ViTOptions
from flaxnets.options import Declared, Recipe, recipe

# What every model takes in addition to its own options.
TYPES = {
    'dtype': Declared(None, 'of the computation; none: what images and parameters promote to'),
    'param_dtype': Declared(jnp.float32, 'of the parameters'),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model: what builds it, its document, what it is, and the map of its PyTorch keys."""

    recipe: Recipe
    document: str
    meaning: str
    torch_map: maps.TorchMap | None = None

    def options(self) -> dict[str, Declared]:
        """The options a user may set, by name."""
        return self.recipe.declared() | TYPES


ALL = NearestOptions()
RANDOM = NearestOptions(pool=RandomTokens())
GRID = NearestOptions(pool=GridTokens())
ATTN = NearestOptions(pool=RandomTokens(), projection='qkv')


def _convnn(layer: Callable[..., Any], options: Any, meaning: str) -> Entry:
    return Entry(stack_of(layer, options), 'document 000', meaning, maps.CONVNN)


def _branching(nearest: NearestOptions, meaning: str) -> Entry:
    return _convnn(
        BranchingLayer, BranchingOptions(nearest=nearest), f'a convolution in parallel with {meaning}'
    )


def _vgg(*convolutions: int) -> Entry:
    options = FrameworkVGGOptions(convolutions=convolutions)
    meaning = f'VGG-{sum(convolutions) + 3} with BatchNorm; ConvNN or branching for convolutions'
    return Entry(Recipe(FrameworkVGG, options), 'framework', meaning, maps.FRAMEWORK_VGG)


def _resnet(*blocks: int) -> Entry:
    options = FrameworkResNetOptions(blocks=blocks)
    meaning = f'ResNet-{2 * sum(blocks) + 2}; ConvNN or branching for convolutions'
    return Entry(Recipe(FrameworkResNet, options), 'framework', meaning, maps.FRAMEWORK_RESNET)


MODELS: dict[str, Entry] = {
    'cnn': _convnn(conv_layer, ConvOptions(), 'convolutions, the baseline of the ConvNN family'),
    'attention': _convnn(AttentionLayer, AttentionOptions(), 'self-attention between all tokens'),
    'convnn_all': _convnn(NearestLayer, ALL, 'convolution over the nearest of all tokens'),
    'convnn_random': _convnn(NearestLayer, RANDOM, 'convolution over the nearest of random tokens'),
    'convnn_spatial': _convnn(NearestLayer, GRID, 'convolution over the nearest tokens of a grid'),
    'convnn_attn': _convnn(
        NearestLayer, ATTN, 'as convnn_random, between projected queries, keys and values'
    ),
    'branching_all': _branching(ALL, 'the layer of convnn_all'),
    'branching_random': _branching(RANDOM, 'the layer of convnn_random'),
    'branching_spatial': _branching(GRID, 'the layer of convnn_spatial'),
    'branching_attn': _branching(ATTN, 'the layer of convnn_attn'),
    'block_cnn': Entry(
        Recipe(BlockCNN, BlockCNNOptions()),
        'document 001',
        'a plain chain of convolution blocks, with or without batch norm',
        maps.BLOCK_CNN,
    ),
    'expert_cnn': Entry(
        Recipe(ExpertCNN, ExpertCNNOptions()),
        'document 002',
        'parallel convolutions, weighted for each image',
        maps.EXPERT_CNN,
    ),
    'vit': Entry(
        Recipe(ViT, ViTOptions()),
        'document 003',
        'a small vision transformer, each head on its own channels',
        maps.VIT,
    ),
    'profiled_cnn': Entry(
        Recipe(ProfiledCNN, ProfiledCNNOptions()),
        'document 003',
        'five convolutions with batch norm; pruned, four',
        maps.PROFILED_CNN,
    ),
    'vgg16': Entry(
        Recipe(VGG16, VGG16Options()),
        'document 003',
        "torchvision's VGG16; pruned, without its second convolution",
        maps.VGG16,
    ),
    'mlp': Entry(Recipe(MLP, MLPOptions()), 'document 004', 'fully connected, two hidden layers', maps.MLP),
    'mnist_cnn': Entry(
        Recipe(MNISTCNN, MNISTCNNOptions()),
        'document 004',
        'three convolutions; residual, pooling and activation variants',
        maps.MNIST_CNN,
    ),
    'vit_tiny': Entry(
        Recipe(FrameworkViT, FrameworkViTOptions()),
        'framework',
        'ViT-Tiny; ConvNN or k-NN attention for attention',
        maps.FRAMEWORK_VIT,
    ),
    'vgg11': _vgg(1, 1, 2, 2, 2),
    'vgg13': _vgg(2, 2, 2, 2, 2),
    'vgg16_bn': _vgg(2, 2, 3, 3, 3),
    'vgg19': _vgg(2, 2, 4, 4, 4),
    'resnet18': _resnet(2, 2, 2, 2),
    'resnet34': _resnet(3, 4, 6, 3),
}


# The models 'module:builder' that the user has named in this process.
NAMED: set[str] = set()


def register(
    name: str,
    build: Callable[..., nnx.Module],
    *,
    document: str,
    meaning: str,
    torch_map: maps.TorchMap | None = None,
    **defaults: Any,
) -> None:
    """Adds a model of your own under `name`, so that configs and `create_model` know it.

    Args:
        name: what it is called from now on.
        build: a recipe, such as `stack_of(MyLayer)`, or a class or function of keyword-only options.
        document: where it is from.
        meaning: what it is, in a line.
        torch_map: the map of its PyTorch keys, for `interop` (see `interop/maps/`).
        defaults: other defaults for some of its options.
    """
    MODELS[name] = Entry(recipe(build).changed(defaults), document, meaning, torch_map)


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


def check_named_in_file(name: str, file: str) -> None:
    """Raises a `UserError` if a file names code, 'module:builder', that the user has not named too.

    Weights and workdirs may come from other people: reading them must not run code that these choose.
    """
    if ':' in name and name not in NAMED:
        raise UserError(
            f'{file} names a model of its own, {name!r}, whose code is run only if you name it too: '
            f'in a --config of yours, with --model {name}, or with --continue as --config.model.name={name}'
        )


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
    NAMED.add(name)
    return Entry(recipe(build), 'yours', recipe(build).build.__doc__ or '')


def torch_rows(model: nnx.Module) -> Iterator[Row]:
    """The rows of the model's map of PyTorch keys; `NoTorchMap` if it has none."""
    return _torch_map(model).rows(model)


def ignored_keys(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """{key: shape} of the parameters that the published PyTorch code has and never uses, which the model does
    not have. `NoTorchMap` if the model has no map."""
    return dict(_torch_map(model).ignored(model))


def torch_variants(model: nnx.Module) -> Iterator[Variant]:
    """The keys that other code gives the model's values; `NoTorchMap` if the model has no map."""
    return _torch_map(model).variants(model)


def _torch_map(model: nnx.Module) -> maps.TorchMap:
    """The map that the table names for models of this class."""
    for row in MODELS.values():
        if row.recipe.build is type(model) and row.torch_map is not None:
            return row.torch_map
    raise NoTorchMap(
        f'{type(model).__name__} has no PyTorch map; register the model with one, flaxnets.register(..., '
        'torch_map=interop.maps.TorchMap(rows)), or export by our own names, to .safetensors'
    )


def create_model(name: str, *, rngs: nnx.Rngs, **options: Any) -> nnx.Module:
    """Builds a registered model.

    Args:
        name: one of `list_models()`, or 'module:builder' for one of your own.
        rngs: the random streams of the initial values, `nnx.Rngs(0)`; the model does not keep them.
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
    return known.recipe(**options, rngs=rngs)


def count_parameters(model: nnx.Module, *, published: bool = False) -> int:
    """Number of trained values; with `published`, plus those that the original has and never uses
    (see `unused_parameters` in `layers/tokens.py`), which the documents' counts include."""
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    if published:
        count += sum(getattr(module, 'unused_parameters', 0) for _, module in nnx.iter_modules(model))
    return count
