"""The framework's layers and small ViTs against PyTorch's numbers, forward and backward, in float64."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_case import parameter, summary

import flaxnets
from flaxnets import registry
from flaxnets.interop import conversion
from flaxnets.interop.maps import framework
from flaxnets.layers.framework.branching2d import Branching2d
from flaxnets.layers.framework.convnn2d import ConvNN2d
from flaxnets.layers.framework.convnn2d_attn import ConvNN2dAttn
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.framework.sine_positions import sine_positions
from flaxnets.models import framework_vit

FOLDER = pathlib.Path(__file__).parent.parent / 'golden_framework'
NAMES = sorted(path.stem for path in FOLDER.glob('*.json'))
WORDS = {'Col': 'features', 'Loc': 'position', 'Loc_Col': 'both', 'spatial': 'grid'}
LAYERS = {'convnn': ConvNN2d, 'convnn_attn': ConvNN2dAttn, 'branching': Branching2d}
TOKEN_LAYERS = {
    'Attention': 'attention',
    'ConvNNAttention': 'convnn_attention',
    'KvtAttention': 'knn_attention',
    'BranchConv': 'branch_conv',
}
TOLERANCE = 1e-9
# Not all of PyTorch's float32 sines are rounded to the nearest number: these (token, column) for 17
# tokens of width 16 are one number higher, and those lower, than the nearest.
HIGHER = ([1, 1, 2, 2, 3, 8, 11, 12], [1, 3, 11, 13, 15, 2, 15, 3])
LOWER = ([8, 8, 8, 9], [4, 5, 9, 4])


def published_positions(tokens: int, width: int) -> np.ndarray:
    """The position table to the last bit, which shows in float64."""
    assert (tokens, width) == (17, 16)
    table = sine_positions(tokens, width)
    for places, way in ((HIGHER, np.inf), (LOWER, -np.inf)):
        table[places] = np.nextafter(table[places], np.float32(way))
    return table


class Layer(nnx.Module):
    """One layer for images as a model."""

    def __init__(self, case: dict[str, Any], **types):
        options = ConvNN2dOptions(
            num_neighbors=case['K'],
            padding=case['padding'],
            sampling=WORDS.get(case['sampling'], case['sampling']),
            num_samples=max(case['num_samples'], 1),
            shuffle_scale=case['shuffle_scale'],
            similarity=case['similarity'],
            similarity_of=WORDS[case.get('similarity_of', 'Col')],
            aggregation=WORDS[case['aggregation']],
            blend=case.get('blend', 0.5),
        )
        ratio = (case['branch_ratio'],) if case['layer'] == 'branching' else ()
        sizes = case['in_channels'], case['out_channels'], (case['side'], case['side'])
        self.layer = LAYERS[case['layer']](*sizes, *ratio, options, **types)

    def __call__(self, images, candidates):
        return self.layer(images, candidates=candidates[0]) if candidates else self.layer(images)

    def rows(self):
        for row in framework.any_layer(self.layer, 'layer', 'layer'):
            yield framework.Row((row.torch[0].removeprefix('layer.'),), row.flax, row.layout)


def transformer(case: dict[str, Any], **types) -> nnx.Module:
    side = case['input_shape'][-1]
    return flaxnets.create_model(
        'vit_tiny',
        image_shape=(side, side, 3),
        layer=TOKEN_LAYERS[case['layer']],
        blocks=case['num_layers'],
        heads=case['num_heads'],
        width=case['d_hidden'],
        mlp_width=case['d_mlp'],
        patch_size=case['patch_size'],
        num_neighbors=case['K'],
        sampling=WORDS.get(case['sampling_type'], case['sampling_type']),
        num_samples=max(case['num_samples'], 1),
        similarity=case['magnitude_type'],
        convolution=case['convolution_type'],
        softmax=case['softmax_topk_val'],
        coordinates=case['coordinate_encoding'],
        kernel_size=case['kernel_size'],
        ratio=case['branch_ratio'],
        dropout=0.0,
        **types,
    )


def close(actual, expected, message):
    """Equal to nine digits of the largest of the numbers that belong together."""
    scale = max(np.max(np.abs(expected)), 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale, err_msg=message)


@pytest.mark.parametrize('name', NAMES)
def test_golden(name, monkeypatch):
    monkeypatch.setattr(framework_vit, 'sine_positions', published_positions)
    case = json.loads((FOLDER / f'{name}.json').read_text())
    with jax.enable_x64(True):
        run(case)


def run(case: dict[str, Any]) -> None:
    build = transformer if case['layer'] in TOKEN_LAYERS else Layer
    model = nnx.eval_shape(lambda: build(case, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
    rows = list(registry.torch_rows(model) if build is transformer else model.rows())
    named = {name: parameter(name, tuple(shape)) for name, shape in case['parameters']}
    assert {key for row in rows for key in row.torch} == set(named)
    variables = conversion.flat_state(model)
    for path, value in conversion.converted(model, named, rows).items():
        variables[path].set_value(value)
    model.train()

    rng = np.random.default_rng(20)
    images = jnp.asarray(rng.standard_normal(case['input_shape']).transpose(0, 2, 3, 1))
    permutations = [rng.permutation(len(given)) for given in case.get('permutations') or []]
    np.testing.assert_array_equal(np.asarray(permutations), np.asarray(case.get('permutations') or []))
    pools = [drawn[: case['num_samples']] for drawn in permutations]
    weights = np.random.default_rng(21).standard_normal(case['output_shape'])

    graph, params = nnx.split(model)

    def objective(params, images):
        y = nnx.merge(graph, params)(images, candidates=pools or None)
        y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
        return jnp.sum(y * weights), y

    both = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    (_, y), (gradient, of_images) = jax.jit(both)(params, images)
    assert list(y.shape) == case['output_shape']
    expected = np.asarray(case['output'])
    close(np.asarray(y).ravel()[: len(expected)], expected, 'output')
    close(summary(np.asarray(y)), case['output_summary'], 'output')
    close(summary(np.asarray(of_images).transpose(0, 3, 1, 2)), case['input_gradient_summary'], 'images')
    values = conversion.flat_state(nnx.merge(graph, gradient))
    for row in rows:
        arrays = row.layout.to_torch(np.asarray(values[row.flax][...]), len(row.torch))
        for key, array in zip(row.torch, arrays, strict=True):
            close(summary(array), case['gradient_summary'][key], key)
