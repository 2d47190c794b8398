"""Small models of every kind beside their PyTorch twins, for the tests of what crosses between them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import small_models
import torch
from flax import nnx
from small_models import BLOCK, CONVNN, CONVNN_TINY, FRAMEWORK_VGG, MNIST, POOL, RESNET, VGG

import flaxnets
from flaxnets import interop
from flaxnets.layers.framework.sine_positions import sine_positions
from train.torch_reference import networks

torch.set_num_threads(1)

LOCATION = {'location_channels': True}
# A similarity that is cut off at 0 leaves ties, which PyTorch breaks otherwise, unless many are positive.
MANY = {'image_shape': (16, 16, 3), 'width': 4, 'num_neighbors': 4, 'num_candidates': 36}
# The small models of all tests, without what PyTorch's twins lack, and what a map has to tell apart beside.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    case: given for case, given in small_models.CASES.items() if 'soft' not in given[1]
} | {
    'convnn_attn': ('convnn_attn', MANY),
    'branching_attn': ('branching_attn', MANY),
    'attention_location': ('attention', {'image_shape': (8, 8, 1), 'width': 4, **LOCATION}),
    'convnn_all_location': ('convnn_all', {**CONVNN, **LOCATION, 'similarity': 'euclidean'}),
    'convnn_random_euclidean': ('convnn_random', {**POOL, 'similarity': 'euclidean', 'num_layers': 3}),
    'convnn_spatial_noshuffle': (
        'convnn_spatial',
        {**POOL, 'image_shape': (8, 8, 9), 'shuffle': 'none', 'width': 16},
    ),
    'convnn_attn_value': ('convnn_attn', {**MANY, **LOCATION, 'projection': 'value'}),
    'branching_all_widths': ('branching_all', {**CONVNN, 'channel_ratio': (2, 6)}),
    'branching_conv_only': ('branching_all', {**CONVNN, 'channel_ratio': (8, 0)}),
    'branching_nearest_only': ('branching_all', {**CONVNN, 'channel_ratio': (0, 8)}),
    'block_cnn_bn_oversight': ('block_cnn', {**BLOCK, 'batch_norm': True, 'oversight': True}),
    'vgg16_pruned': ('vgg16', {**VGG, 'pruned': True}),
    'vit_tiny_grid': (
        'vit_tiny',
        {**CONVNN_TINY, 'sampling': 'grid', 'similarity': 'euclidean', 'softmax': False},
    ),
    'vit_tiny_separable': (
        'vit_tiny',
        {**CONVNN_TINY, 'convolution': 'depthwise-separable', 'similarity': 'cosine', 'oversight': False},
    ),
    'vit_tiny_coordinates': (
        'vit_tiny',
        {**CONVNN_TINY, 'convolution': 'standard', 'coordinates': True, 'sampling': 'random'},
    ),
    'resnet18_both': (  # without a border, whose tokens left and right of a pixel are equally near
        'resnet18',
        {
            **RESNET,
            'widths': (10, 10, 12, 12),
            'layer': 'convnn',
            'similarity_of': 'both',
            'aggregation': 'both',
            'padding': 0,
        },
    ),
    'vgg11_random': (
        'vgg11',
        {**FRAMEWORK_VGG, 'sampling': 'random', 'num_samples': 20, 'similarity': 'euclidean'},
    ),
    'resnet18_grid': ('resnet18', {**RESNET, 'sampling': 'grid', 'num_samples': 3, 'layer': 'convnn'}),
    'resnet18_attn': ('resnet18', {**RESNET, 'layer': 'convnn_attn', 'shuffle_scale': 2, 'dropout': 0.0}),
    'resnet18_conv': ('resnet18', {**RESNET, 'layer': 'conv'}),
    'mnist_cnn_tanh': ('mnist_cnn', {**MNIST, 'order': 'pool_act', 'activation': 'tanh'}),
}
NO_DROPOUT: dict[str, dict[str, Any]] = {
    'profiled_cnn': {'dropout': (0.0, 0.0)},
    'vgg16': {'dropout': (0.0, 0.0)},
    'vit_tiny': {'dropout': 0.0},
    'vgg11': {'dropout': 0.0},
    'resnet18': {'dropout': 0.0},
}
# Model -> a case of it: with batch normalisation, where it is an option.
MODELS = {name: case for case, (name, _) in reversed(CASES.items())}
MODELS |= {'block_cnn': 'block_cnn batch_norm', 'mnist_cnn': 'mnist_cnn norm'}
# Rounding may swap two almost equal neighbours in float32: these are compared in float64 only.
CHOOSES_NEIGHBOURS = {
    case
    for case, (name, _) in CASES.items()
    if name.startswith(('convnn', 'branching', 'vgg11', 'resnet18')) or 'layer' in CASES[case][1]
}


class Pair:
    """A flaxnets model and its PyTorch twin, whose random weights it has imported."""

    def __init__(self, case: str, dtype: Any = jnp.float64, seed: int = 0):
        self.case = case
        self.name, options = CASES[case]
        self.options = {'num_classes': 5 if self.name == 'vit' else 10, **options}
        self.options |= NO_DROPOUT.get(self.name, {})
        self.dtype = dtype
        self.torch_dtype = torch.float64 if dtype == jnp.float64 else torch.float32
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.twin = networks.create(self.name, **self.filled()).to(self.torch_dtype)
        if hasattr(self.twin, 'positional_encoding'):
            # PyTorch does not round every float32 sine to the nearest number, which shows in float64.
            table = self.twin.positional_encoding.table
            table.copy_(torch.from_numpy(sine_positions(*table.shape)))
        # Running statistics and norms as they are after training, not 0 and 1.
        for key, value in self.twin.state_dict().items():
            if value.dtype.is_floating_point and ('running' in key or value.ndim == 1):
                value.add_(torch.rand_like(value) / 3)
        # Abstract, because computing initial values of so many shapes takes seconds.
        self.model = nnx.eval_shape(
            lambda: flaxnets.create_model(self.name, param_dtype=dtype, rngs=nnx.Rngs(0), **self.options)
        )
        interop.from_torch(self.model, self.twin.state_dict())

    def filled(self) -> dict[str, Any]:
        """The options with those the twin has no default of its own for."""
        return {'image_shape': self.image_shape, **self.options}

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        known = flaxnets.registry.entry(self.name).options()
        return self.options.get('image_shape', known['image_shape'].default)

    def batch(self, size: int = 6) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Images NHWC, labels, and candidates for the layers that draw them."""
        images = self.rng.standard_normal((size, *self.image_shape)).astype(self.dtype)
        labels = self.rng.integers(0, self.options['num_classes'], size)
        if hasattr(self.twin, 'pools'):
            drawn = [self.rng.permutation(tokens)[:count] for count, tokens in self.twin.pools()]
            return images, labels, drawn
        pools = []
        for layer in getattr(self.model, 'layers', []):
            if getattr(layer, 'draws_candidates', False):
                tokens = self.image_shape[0] * self.image_shape[1] // 4
                pools.append(self.rng.permutation(tokens)[: self.options['num_candidates']])
        return images, labels, pools

    def twin_logits(self, images: np.ndarray, pools: list[np.ndarray], training: bool) -> torch.Tensor:
        self.twin.train(training)
        inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return self.twin(inputs, [torch.from_numpy(p) for p in pools]) if pools else self.twin(inputs)


def apply(model: nnx.Module, images: jax.Array, pools: list[np.ndarray], training: bool) -> jax.Array:
    """The model's logits, in either mode."""
    model.train() if training else model.eval()
    return model(images, candidates=pools) if pools else model(images)
