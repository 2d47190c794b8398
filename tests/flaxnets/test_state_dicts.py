"""State dicts as people have them, and what is said of those that do not fit."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError, create_model, interop
from flaxnets.interop import conversion, matching, state_dicts

OPTIONS = {'image_shape': (8, 8, 3), 'width': 4}


def cnn(seed=0):
    return create_model('cnn', rngs=nnx.Rngs(seed), **OPTIONS)


def values(model):
    return np.concatenate([np.ravel(value) for value in interop.to_torch(model).values()])


@pytest.fixture(scope='module')
def weights():
    return interop.to_torch(cnn(seed=1))


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: {'epoch': 3, 'state_dict': weights, 'optimizer': {'state': {}}},
        lambda weights: {'model_state_dict': weights},
        lambda weights: {'model': {'state_dict': weights}, 'args': 'x'},
        lambda weights: {'net': {f'module.{key}': value for key, value in weights.items()}, 'acc': 91.2},
        lambda weights: {'state_dict': {f'model.{key}': value for key, value in weights.items()}},
        lambda weights: {f'net.backbone.{key}': value for key, value in weights.items()},
        lambda weights: {'n_averaged': np.array(3)} | {f'module.{k}': v for k, v in weights.items()},
        lambda weights: {f'module.{key}': value for key, value in weights.items()},
        lambda weights: {f'_orig_mod.module.{key}': value for key, value in weights.items()},
        lambda weights: {key.replace('features.', 'features.module.'): v for key, v in weights.items()},
    ],
    ids=[
        'state_dict',
        'model_state_dict',
        'model',
        'pytorch-cifar',
        'Lightning',
        'a part of a module',
        'averaged (SWA)',
        'parallel',
        'compiled',
        'partly parallel',
    ],
)
def test_checkpoints_of_training_scripts_are_recognised(wrap, weights):
    np.testing.assert_array_equal(values(interop.from_torch(cnn(), wrap(weights))), values(cnn(seed=1)))


def test_values_take_the_models_dtype(weights):
    half = {key: value.astype(jnp.bfloat16) for key, value in weights.items()}
    model = interop.from_torch(cnn(), half)
    assert model.head.kernel.dtype == jnp.float32
    np.testing.assert_allclose(values(model), values(cnn(seed=1)), rtol=1e-2)


def test_tensors_of_any_kind_are_taken(weights):
    torch = pytest.importorskip('torch')
    tensors = {key: torch.tensor(value, dtype=torch.bfloat16) for key, value in weights.items()}
    tensors['classifier.1.bias'] = torch.nn.Parameter(torch.tensor(weights['classifier.1.bias'])[::1])
    tensors['features.0.weight'] = torch.tensor(weights['features.0.weight']).to(
        memory_format=torch.channels_last
    )
    model = interop.from_torch(cnn(), tensors)
    np.testing.assert_allclose(values(model), values(cnn(seed=1)), rtol=1e-2)
    np.testing.assert_array_equal(interop.to_torch(model)['features.0.weight'], weights['features.0.weight'])


def test_import_and_export_copy(weights):
    mine = {key: value.copy() for key, value in weights.items()}
    model = interop.from_torch(cnn(), mine)
    for value in [*mine.values(), *interop.to_torch(model).values()]:
        value[...] = 7
    np.testing.assert_array_equal(values(model), values(cnn(seed=1)))


def test_an_abstract_model_is_filled(weights):
    model = interop.from_torch(nnx.eval_shape(cnn), weights)
    np.testing.assert_array_equal(values(model), values(cnn(seed=1)))


def test_all_problems_are_listed_at_once(weights):
    wrong = dict(weights)
    wrong['features.0.wieght'] = wrong.pop('features.0.weight')
    wrong['classifier.1.bias'] = np.zeros(100)
    wrong['features.2.bias'] = wrong['features.2.bias'].astype(int)
    wrong['extra.weight'] = np.zeros((2, 3))
    model = cnn()
    before = values(model)
    with pytest.raises(UserError) as error:
        interop.from_torch(model, wrong)
    message = str(error.value)
    assert '\n' not in message
    for part in (
        'ConvNNStack: 1 missing, 2 surplus, 2 misshaped',
        'features.0.weight: missing, (4, 3, 3, 3) (is it features.0.wieght?)',
        'classifier.1.bias: expected (10,), got (100,)',
        'features.2.bias: expected floating values, got int64',
        'extra.weight: not in this model, (2, 3)',
    ):
        assert part in message
    np.testing.assert_array_equal(values(model), before)


def test_another_architecture_is_suspected(weights):
    with pytest.raises(UserError, match='another architecture'):
        interop.from_torch(create_model('mlp', rngs=nnx.Rngs(0), hidden=(4, 4)), weights)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ([1, 2], r'expected a state dict.*got a list'),
        ({}, 'got a dictionary of nothing'),
        ({'epoch': 1, 'loss': 0.5}, 'got a dictionary of epoch, loss'),
        ({'module.a': np.zeros(1), 'a': np.zeros(1)}, 'twice'),
        ({'evil\nkey': 1}, r"'evil\\nkey'"),
        (cnn, 'got a function'),
    ],
)
def test_what_is_no_state_dict_is_said_in_a_line(value, message):
    with pytest.raises(UserError, match=message) as error:
        state_dicts.arrays(value)
    assert '\n' not in str(error.value)


def test_a_checkpoint_that_contains_itself_ends():
    loop = {}
    loop['model'] = loop
    with pytest.raises(UserError):
        interop.from_torch(cnn(), loop)


@pytest.mark.parametrize(
    'skip', ['classifier', 'classifier.1', r'class.*', 'head', ('classifier.1.weight', r'.*bias')]
)
def test_a_skipped_head_keeps_its_values(skip, weights):
    larger = {**weights, 'classifier.1.weight': np.zeros((1000, 256)), 'classifier.1.bias': np.zeros(1000)}
    model = interop.from_torch(cnn(), larger, skip=skip)
    np.testing.assert_array_equal(model.head.kernel[...], cnn().head.kernel[...])
    np.testing.assert_array_equal(interop.to_torch(model)['features.0.weight'], weights['features.0.weight'])
    without = {key: value for key, value in weights.items() if not key.startswith('classifier')}
    interop.from_torch(cnn(), without, skip=skip)


@pytest.mark.parametrize(
    ('skip', 'message'), [('clasifier', 'try classifier.1'), ('(', 'regular expression')]
)
def test_a_skip_that_fits_nothing_is_an_error(skip, message, weights):
    with pytest.raises(UserError, match=message):
        interop.from_torch(cnn(), weights, skip=skip)


@pytest.mark.parametrize('skip', ['criterion', 'criterion.weight', ('classifier', r'crit.*')])
def test_what_only_the_file_has_is_dropped(skip, weights):
    given = weights | {'criterion.weight': np.ones(10)}
    with pytest.raises(UserError, match=r'criterion\.weight: not in this model'):
        interop.from_torch(cnn(), given)
    model = interop.from_torch(cnn(), given, skip=skip)
    np.testing.assert_array_equal(interop.to_torch(model)['features.0.weight'], weights['features.0.weight'])


def test_a_skip_that_leaves_nothing_is_an_error(weights):
    with pytest.raises(UserError, match=r"skip: '\.\*' leaves nothing to load"):
        interop.from_torch(cnn(), weights, skip='.*')


def test_weights_that_are_not_finite_are_named(weights):
    given = {key: value.copy() for key, value in weights.items()}
    given['features.0.weight'][0, 0, 0] = np.nan
    given['classifier.1.bias'] = given['classifier.1.bias'].astype(jnp.bfloat16)
    given['classifier.1.bias'][3] = np.inf
    model = cnn()
    with pytest.raises(
        UserError, match=r'NaN or infinity.*features\.0\.weight \(3 of 108\).*bias \(1 of 10\)'
    ):
        interop.from_torch(model, given)
    np.testing.assert_array_equal(values(model), values(cnn()))
    interop.from_torch(model, given, skip=('features.0.weight', 'classifier.1.bias'))


def test_a_match_says_what_went_where():
    model = create_model('convnn_all', rngs=nnx.Rngs(0), **OPTIONS)
    given = interop.to_torch(model) | {'features.0.pointwise_conv.bias': np.zeros(4, np.float32)}
    match = matching.match(model, given, skip='classifier')
    assert [row.flax for row in match.fresh] == ['head/kernel', 'head/bias']
    assert 'features.0.pointwise_conv.bias' in match.ignored
    assert len(match.loaded) == 4


def test_a_model_without_a_map_says_how_to_add_one():
    with pytest.raises(UserError, match=r'has no PyTorch map; register the model with one.*torch_map='):
        interop.from_torch(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), {'weight': np.zeros((2, 2))})


def test_the_map_prints_as_a_table():
    model = create_model('convnn_all', rngs=nnx.Rngs(0), **OPTIONS)
    heading, first, *_, last = [re.split(' {2,}', line) for line in conversion.table(model).splitlines()]
    assert heading == ['PyTorch', 'shape', 'flaxnets', 'shape', 'layout']
    assert first == [
        'features.0.Conv1d_NN.conv1d_layer.weight',
        '(16, 12, 9)',
        'layers/0/kernel',
        '(9, 12, 16)',
        'OIK -> KIO',
    ]
    assert last == ['features.2.pointwise_conv.bias', '(4,)', 'no output depends on it']
