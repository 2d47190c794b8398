"""Every model, small and not square, and their variants: the one table of shrunken models for all tests."""

from typing import Any

CONVNN = {'image_shape': (8, 6, 3), 'num_layers': 2, 'width': 4, 'num_neighbors': 3}
POOL = {**CONVNN, 'num_candidates': 4}
MNIST = {'image_shape': (6, 5, 1), 'widths': (3, 4, 5)}
BLOCK = {'image_shape': (14, 17, 3), 'blocks': 1, 'width': 4, 'hidden': 8}
PROFILED = {'image_shape': (16, 9, 3), 'widths': (4, 4, 4, 4, 5), 'hidden': (8, 7)}
VIT = {'image_shape': (4, 8, 3), 'blocks': 1, 'patch_size': 2, 'heads': 4}
VGG = {'image_shape': (33, 64, 3), 'widths': (4, 4, 4, 4, 5), 'hidden': (8, 8)}
TINY: dict[str, Any] = {
    'image_shape': (8, 12, 3),
    'patch_size': 4,
    'blocks': 2,
    'width': 8,
    'mlp_width': 12,
    'num_neighbors': 3,
    'num_samples': 4,
}
FRAMEWORK_VGG = {
    'image_shape': (32, 40, 3),
    'convolutions': (1, 1, 1, 1, 2),
    'widths': (4, 4, 4, 4, 6),
    'hidden': (8, 8),
    'pooled': 2,
    'num_neighbors': 3,
    # Many tokens of 4 channels have one that ReLU left: their cosines are 1, up to rounding, which chooses.
    'similarity': 'euclidean',
}
RESNET: dict[str, Any] = {
    'image_shape': (6, 8, 3),
    'blocks': (1, 2, 1, 1),
    'widths': (4, 4, 6, 6),
    'num_neighbors': 3,
    'similarity': 'euclidean',
}
IMAGENET: dict[str, Any] = {'image_shape': (24, 32, 3), 'layer': 'conv', 'stride': 'imagenet'}
CONVNN_TINY = {**TINY, 'layer': 'convnn_attention', 'heads': 2}

SMALL: dict[str, dict[str, Any]] = {
    'cnn': {'image_shape': (8, 6, 3), 'width': 4},
    'attention': {'image_shape': (8, 6, 3), 'width': 4, 'num_heads': 2},
    **dict.fromkeys(['convnn_all', 'branching_all'], CONVNN),
    **dict.fromkeys(
        [f'{family}_{pool}' for family in ('convnn', 'branching') for pool in ('random', 'spatial', 'attn')],
        POOL,
    ),
    'block_cnn': BLOCK,
    'expert_cnn': {'image_shape': (5, 4, 3), 'blocks': 1, 'width': 8},
    'vit': VIT,
    'profiled_cnn': PROFILED,
    'vgg16': VGG,
    'mlp': {'image_shape': (5, 4, 2), 'hidden': (6, 7)},
    'mnist_cnn': MNIST,
    'vit_tiny': TINY,
    'vgg11': FRAMEWORK_VGG,
    'resnet18': RESNET,
}
# Model -> the one it is equal to, up to an option of this name; so the small model stands for both.
DEEPER = {
    'vgg13': ('vgg11', 'convolutions'),
    'vgg16_bn': ('vgg11', 'convolutions'),
    'vgg19': ('vgg11', 'convolutions'),
    'resnet34': ('resnet18', 'blocks'),
}
# Case -> (model, options).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    'convnn_attn soft': ('convnn_attn', {**POOL, 'soft': True}),
    'block_cnn batch_norm': ('block_cnn', {**BLOCK, 'batch_norm': True}),
    'block_cnn oversight': ('block_cnn', {**BLOCK, 'oversight': True}),
    'vit learned': ('vit', {**VIT, 'position': 'learned', 'activation': 'gelu'}),
    'profiled_cnn pruned': ('profiled_cnn', {**PROFILED, 'pruned': True}),
    'mnist_cnn plain': ('mnist_cnn', {**MNIST, 'residual': 1, 'skip': False, 'oversight': True}),
    'vit_tiny convnn': ('vit_tiny', CONVNN_TINY),
    'vit_tiny random': ('vit_tiny', {**CONVNN_TINY, 'sampling': 'random', 'convolution': 'standard'}),
    'vit_tiny knn': ('vit_tiny', {**TINY, 'layer': 'knn_attention', 'heads': 2}),
    'vit_tiny branch_conv': ('vit_tiny', {**TINY, 'layer': 'branch_conv', 'heads': 2}),
    'vgg11 branching_attn': ('vgg11', {**FRAMEWORK_VGG, 'layer': 'branching_attn'}),
    'resnet18 random': ('resnet18', {**RESNET, 'layer': 'convnn', 'sampling': 'random', 'num_samples': 9}),
    'resnet18 imagenet': ('resnet18', {**RESNET, **IMAGENET}),
    'mnist_cnn norm': ('mnist_cnn', {**MNIST, 'residual': 1, 'batch_norm': True, 'activation': 'tanh'}),
}
CASES = {name: (name, options) for name, options in SMALL.items()} | VARIANTS


def narrow(name: str) -> dict[str, Any]:
    """The small widths of a model, without the size of its images and its number of layers."""
    return {key: value for key, value in SMALL[name].items() if key not in ('image_shape', 'num_layers')}
