"""Small models of every kind beside their PyTorch twins, for the tests of what crosses between them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import flaxnets
from flaxnets import interop
from train.torch_reference import networks

torch.set_num_threads(1)

NEAREST = {'image_shape': (16, 16, 3), 'width': 4, 'num_neighbors': 4}
POOL = {**NEAREST, 'num_candidates': 36}
MNIST = {'image_shape': (12, 12, 1), 'widths': (3, 4, 5)}
VGG = {'widths': (2, 3, 4, 5, 6), 'hidden': (9, 8), 'dropout': (0.0, 0.0), 'pooled': 2, 'num_classes': 10}
# Case -> (model, options). Every registered model is among them; image sides differ where they may.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    'cnn': ('cnn', {'image_shape': (8, 6, 3), 'width': 4, 'num_layers': 3}),
    'attention': ('attention', {'image_shape': (8, 12, 3), 'width': 4, 'num_heads': 2}),
    'attention_location': ('attention', {'image_shape': (8, 8, 1), 'width': 4, 'location_channels': True}),
    'convnn_all': ('convnn_all', NEAREST),
    'convnn_all_location': ('convnn_all', {**NEAREST, 'location_channels': True, 'similarity': 'euclidean'}),
    'convnn_random': ('convnn_random', POOL),
    'convnn_random_euclidean': ('convnn_random', {**POOL, 'similarity': 'euclidean', 'num_layers': 3}),
    'convnn_spatial': ('convnn_spatial', {**POOL, 'image_shape': (16, 14, 3)}),
    'convnn_spatial_noshuffle': (
        'convnn_spatial',
        {**POOL, 'image_shape': (8, 8, 9), 'shuffle': 'none', 'width': 16},
    ),
    'convnn_attn': ('convnn_attn', POOL),
    'convnn_attn_value': ('convnn_attn', {**POOL, 'projection': 'value', 'location_channels': True}),
    'branching_all': ('branching_all', {**NEAREST, 'channel_ratio': (2, 6)}),
    'branching_random': ('branching_random', POOL),
    'branching_spatial': ('branching_spatial', POOL),
    'branching_attn': ('branching_attn', POOL),
    'branching_conv_only': ('branching_all', {**NEAREST, 'channel_ratio': (8, 0)}),
    'branching_nearest_only': ('branching_all', {**NEAREST, 'channel_ratio': (0, 8)}),
    'block_cnn_bn': ('block_cnn', {'blocks': 2, 'width': 3, 'hidden': 7, 'batch_norm': True}),
    'block_cnn': ('block_cnn', {'blocks': 2, 'width': 3, 'hidden': 7}),
    'block_cnn_oversight': (
        'block_cnn',
        {'blocks': 2, 'width': 3, 'hidden': 7, 'batch_norm': True, 'oversight': True},
    ),
    'expert_cnn': ('expert_cnn', {'image_shape': (8, 10, 3), 'blocks': 2, 'width': 8, 'reduction': 2}),
    'vit': ('vit', {'blocks': 2, 'image_shape': (8, 12, 3)}),
    'vit_learned': (
        'vit',
        {'blocks': 2, 'heads': 3, 'width': 6, 'position': 'learned', 'activation': 'gelu'},
    ),
    'profiled_cnn': ('profiled_cnn', {'widths': (3, 4, 5, 6, 7), 'hidden': (9, 8), 'dropout': (0.0, 0.0)}),
    'profiled_pruned': (
        'profiled_cnn',
        {'widths': (3, 4, 5, 6, 7), 'hidden': (9, 8), 'dropout': (0.0, 0.0), 'pruned': True},
    ),
    'vgg16': ('vgg16', VGG),
    'vgg16_pruned': ('vgg16', {**VGG, 'pruned': True}),
    'mlp': ('mlp', {'image_shape': (5, 4, 2), 'hidden': (6, 7)}),
    'mnist_cnn_residual': ('mnist_cnn', {**MNIST, 'residual': 2, 'batch_norm': True}),
    'mnist_cnn': ('mnist_cnn', MNIST),
    'mnist_cnn_tanh': ('mnist_cnn', {**MNIST, 'order': 'pool_act', 'activation': 'tanh'}),
    'mnist_cnn_plain': ('mnist_cnn', {**MNIST, 'residual': 2, 'skip': False, 'oversight': True}),
}
# Model -> the first case of it: with batch normalisation, where it is an option.
MODELS = {name: case for case, (name, _) in reversed(CASES.items())}
# Rounding may swap two almost equal neighbours in float32: these are compared in float64 only.
CHOOSES_NEIGHBOURS = {case for case, (name, _) in CASES.items() if name.startswith(('convnn', 'branching'))}


class Pair:
    """A flaxnets model and its PyTorch twin, whose random weights it has imported."""

    def __init__(self, case: str, dtype: Any = jnp.float64, seed: int = 0):
        self.case = case
        self.name, options = CASES[case]
        self.options = {'num_classes': 5 if self.name == 'vit' else 10, **options}
        self.dtype = dtype
        self.torch_dtype = torch.float64 if dtype == jnp.float64 else torch.float32
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.twin = networks.create(self.name, **self.filled()).to(self.torch_dtype)
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
