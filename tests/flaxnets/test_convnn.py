"""The ConvNN family's stack: published sizes, options, candidates and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxnets
from flaxnets import UserError, registry
from flaxnets.layers.conv import Conv
from flaxnets.models.convnn import ConvNNStack, stack_of

ROWS = ('cnn', 'attention', 'convnn_all', 'convnn_attn', 'branching_all', 'branching_attn')
PUBLISHED = {
    2: (166_618, 202_730, 208_362, 601_578, 212_186, 605_402),
    4: (171_258, 244_938, 282_826, 1_069_258, 292_346, 1_078_778),
    8: (180_538, 329_354, 431_754, 2_004_618, 452_666, 2_025_530),
}
SAME_SIZE = {'all': ('all', 'random', 'spatial'), 'attn': ('attn',)}
COUNTS = [
    (name.replace(kind, same), layers, count)
    for layers, counts in PUBLISHED.items()
    for name, count in zip(ROWS, counts, strict=True)
    for kind in [name.rpartition('_')[2] if '_' in name else '']
    for same in SAME_SIZE.get(kind, (kind,))
]
SMALL = {'image_shape': (8, 6, 3), 'num_layers': 2, 'width': 4}
NEAREST = {**SMALL, 'num_neighbors': 3, 'num_candidates': 4}


def build(name, **options):
    return flaxnets.create_model(name, rngs=nnx.Rngs(0), **options)


def images(batch=2, shape=(8, 6, 3)):
    return jnp.asarray(np.random.default_rng(0).standard_normal((batch, *shape)), jnp.float32)


def test_the_table_has_all_thirty():
    assert len(COUNTS) == len({name for name, _, _ in COUNTS}) * 3 == 30


@pytest.mark.parametrize(('name', 'layers', 'published'), COUNTS)
def test_published_parameter_counts(name, layers, published):
    model = nnx.eval_shape(lambda: build(name, num_layers=layers))
    dead = 0 if name == 'cnn' else 304 * layers
    assert flaxnets.count_parameters(model, published=True) == published
    assert flaxnets.count_parameters(model) == published - dead


def test_candidates_are_the_streams_draws_in_layer_order():
    model = build('branching_random', **NEAREST)
    rngs = nnx.Rngs(candidates=3)
    drawn = [jax.random.permutation(rngs.candidates(), 12)[:4] for _ in model.layers]
    stream = nnx.jit(lambda model, x, key: model(x, rngs=nnx.Rngs(candidates=key)))
    given = nnx.jit(lambda model, x, drawn: model(x, candidates=drawn))
    pinned = given(model, images(), drawn)
    np.testing.assert_array_equal(stream(model, images(), jax.random.key(3)), pinned)
    assert np.any(stream(model, images(), jax.random.key(4)) != pinned)


@pytest.mark.parametrize('name', ['cnn', 'convnn_all', 'branching_spatial'])
def test_no_stream_is_needed_without_random_candidates(name):
    known = registry.MODELS[name].options()
    model = build(name, **{option: value for option, value in NEAREST.items() if option in known})
    assert nnx.jit(lambda model, x: model(x))(model, images()).shape == (2, 10)


def test_refusals():
    model = build('convnn_random', **NEAREST)
    with pytest.raises(UserError, match=r'rngs=nnx\.Rngs\(candidates=0\)'):
        model(images())
    with pytest.raises(UserError, match='each of the 2 layers that draw them, got 1'):
        model(images(), candidates=[jnp.arange(4)])
    with pytest.raises(UserError, match=r'images: expected \[batch, 8, 6, 3\], got \[2, 6, 8, 3\]'):
        model(images(shape=(6, 8, 3)), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match='each of the 0 layers'):
        build('cnn', **SMALL)(images(), candidates=[jnp.arange(4)])


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('convnn_all', {'image_shape': (7, 6, 3)}, r'model\.image_shape: expected an even .* got 7 x 6'),
        ('convnn_all', {'image_shape': (4, 4, 3)}, r'model\.num_neighbors: .* among the 4 tokens, got 9'),
        ('convnn_random', {'num_candidates': 8}, r'model\.num_neighbors: .* among 8 candidates, got 9'),
        ('convnn_attn', {'num_candidates': 257}, r'model\.num_candidates: .* 16 x 16 tokens, got 257'),
        ('convnn_all', {'num_candidates': 9}, r'model\.num_candidates: convnn_all has no such option'),
        ('convnn_all', {'shuffle': 'after'}, r"model\.shuffle: .* got 64 x 64; use 'both' or 'none'"),
        ('attention', {'num_heads': 5}, r'model\.num_heads: expected a divisor of the 64 features'),
        ('cnn', {'num_layers': 0}, r'model\.num_layers: expected a whole number of at least 1, got 0'),
        ('cnn', {'width': 0}, r'model\.width: expected a whole number of at least 1, got 0'),
    ],
)
def test_options_that_cannot_be(name, options, message):
    with pytest.raises(UserError, match=message):
        nnx.eval_shape(lambda: build(name, **options))


def test_attn_models_project_and_may_project_values_alone():
    for name in ('convnn_attn', 'branching_attn'):
        assert registry.MODELS[name].options()['projection'].default == 'qkv'
        model = nnx.eval_shape(lambda name=name: build(name, projection='value'))
        weights = {key.split('.')[-2] for row in registry.torch_rows(model) for key in row.torch}
        assert 'w_v' in weights
        assert not {'w_q', 'w_k'} & weights


class Scale(nnx.Module):
    """A researcher's layer: a 1x1 convolution times a constant."""

    def __init__(self, in_features, out_features, image_size, *, factor=2.0, **types):
        self.factor = factor
        self.conv = Conv(in_features, out_features, 1, **types)

    def __call__(self, x):
        return self.factor * self.conv(x)


def test_a_new_layers_options_are_model_options(monkeypatch):
    monkeypatch.setattr(registry, 'MODELS', dict(registry.MODELS))
    flaxnets.register('scale', stack_of(Scale, factor=3.0), document='a test', meaning='scaled')
    assert registry.MODELS['scale'].options()['factor'].default == 3.0
    model = build('scale', **SMALL, factor=0.0)
    assert isinstance(model, ConvNNStack)
    np.testing.assert_allclose(model(images()), np.tile(model.head.bias[...], (2, 1)), rtol=1e-6)
    assert build('scale', **SMALL).layers[0].factor == 3.0


@pytest.mark.parametrize('name', ['attention', 'convnn_spatial', 'branching_attn'])
def test_location_channels_use_the_published_pointwise_convolution(name):
    model = nnx.eval_shape(lambda: build(name, location_channels=True))
    pointwise = [key for row in registry.torch_rows(model) for key in row.torch if 'pointwise_conv' in key]
    assert len(pointwise) == 4, 'weight and bias of two layers'
    assert not list(registry.ignored_keys(model))
    assert flaxnets.count_parameters(model, published=True) == flaxnets.count_parameters(model)
