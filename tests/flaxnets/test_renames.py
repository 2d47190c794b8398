"""Keys that other code gives the same values: the user's rules, prefixes, torchvision's and timm's VGG16."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxnets
from flaxnets import UserError, interop
from flaxnets.interop import matching

VGG = {'widths': (4, 4, 4, 4, 5), 'hidden': (8, 6), 'num_classes': 10, 'image_shape': (32, 32, 3)}
TIMM = {'classifier.0': 'pre_logits.fc1', 'classifier.3': 'pre_logits.fc2', 'classifier.6': 'head.fc'}
CLASSIFIER = r'classifier\.[36]'


def vgg(**options):
    return flaxnets.create_model('vgg16', rngs=nnx.Rngs(0), **VGG | options)


@pytest.fixture(scope='module')
def whole():
    """What torchvision saves of its VGG16, narrower."""
    return interop.to_torch(flaxnets.create_model('vgg16', rngs=nnx.Rngs(1), **VGG))


def timm(weights):
    """What timm saves of it: all linear layers but the last are convolutions over their whole input."""
    renamed = {}
    for key, value in weights.items():
        module, _, name = key.rpartition('.')
        module = TIMM.get(module, module)
        if module.startswith('pre_logits') and name == 'weight':
            side = 7 if module.endswith('fc1') else 1
            value = value.reshape(len(value), -1, side, side)  # noqa: PLW2901
        renamed[f'{module}.{name}'] = value
    return renamed


def lightning(weights):
    return {'state_dict': {f'model.{key}': value for key, value in weights.items()}}


@pytest.mark.parametrize('wrap', [timm, lambda w: lightning(timm(w))], ids=['timm', 'timm in Lightning'])
def test_timms_vgg16_is_recognised(wrap, whole):
    exported = interop.to_torch(interop.from_torch(vgg(), wrap(whole)))
    assert exported.keys() == whole.keys()
    for key, value in whole.items():
        np.testing.assert_array_equal(exported[key], value)


@pytest.mark.parametrize('wrap', [dict, timm, lightning], ids=['torchvision', 'timm', 'Lightning'])
def test_the_pruned_vgg16_starts_from_the_whole_one(wrap, whole):
    """Its convolutions have other numbers, because the one left out is counted in the whole network."""
    model = interop.from_torch(vgg(pruned=True, hidden=(8, 3)), wrap(whole), skip=CLASSIFIER)
    for ours, theirs in {(0, 0): 0, (1, 0): 5, (1, 1): 7, (4, 2): 28}.items():
        kernel = model.stages[ours[0]][ours[1]].kernel
        np.testing.assert_array_equal(kernel, whole[f'features.{theirs}.weight'].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(model.fc1.bias, whole['classifier.0.bias'])
    np.testing.assert_array_equal(model.fc3.kernel, vgg(pruned=True, hidden=(8, 3)).fc3.kernel)


def test_what_was_recognised_is_said(whole):
    match = matching.match(vgg(pruned=True), {f'net.{k}': v for k, v in timm(whole).items()})
    assert str(match.renames) == "keys of timm's VGG16, prefix 'net.' removed"
    assert match.ignored == ['features.2.weight', 'features.2.bias']
    with pytest.raises(
        UserError, match=r"\(keys of torchvision's VGG16\).*0 missing, 0 surplus, 3 misshaped"
    ):
        interop.from_torch(vgg(pruned=True, hidden=(8, 3)), whole)


def test_the_pruned_vgg16s_own_keys_stay():
    weights = interop.to_torch(vgg(pruned=True))
    match = matching.match(vgg(pruned=True), weights)
    assert list(match.given) == list(weights)
    assert str(match.renames) == ''


def test_a_rule_renames(whole):
    theirs = {k.replace('features.', 'body.').replace('bias', 'beta'): v for k, v in whole.items()}
    for rename in (['^body=features', r'(.*)\.beta$=\1.bias'], r'body=features beta=bias'):
        model = interop.from_torch(vgg(), theirs, rename=rename)
        np.testing.assert_array_equal(model.fc3.bias, whole['classifier.6.bias'])


@pytest.mark.parametrize(
    ('rename', 'message'),
    [
        ('body', "expected 'OLD=NEW'"),
        ('=x', "expected 'OLD=NEW'"),
        ('(=x', 'regular expression'),
        (r'features=\2', 'regular expression'),
        ('body=features', "'body=features' changes no key; the keys are features.0.weight"),
        (r'features\.\d+=features.0', r'features\.0\.weight and .* become features\.0\.weight'),
    ],
)
def test_rules_that_do_not_work(rename, message, whole):
    with pytest.raises(UserError, match=message):
        interop.from_torch(vgg(), whole, rename=rename)


def test_two_prefixes_that_do_equally_well_are_left_to_the_user(whole):
    both = {f'{name}.{key}': value for name in ('ema', 'model') for key, value in whole.items()}
    with pytest.raises(UserError, match='32 missing, 64 surplus'):
        interop.from_torch(vgg(), both)
    model = interop.from_torch(vgg(), both, rename=r'^ema\.=', skip='model')
    assert jnp.array_equal(model.fc3.bias, whole['classifier.6.bias'])
