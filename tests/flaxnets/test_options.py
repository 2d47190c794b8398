"""Options: declared once, found by name in whatever group declares them."""

import dataclasses

import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.options import Declared, ModelOptions, Options, Recipe, option, recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Options):
    factor: float = 2.0
    mode: str = option('a', 'which', choices=('a', 'b'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(ModelOptions):
    sizes: tuple = option((1, 2), 'sizes', at_least=1)
    inner: Inner = dataclasses.field(default_factory=Inner)
    layer: Recipe = dataclasses.field(default_factory=lambda: Recipe(dict, Inner(mode='b')))


def test_all_groups_form_one_flat_list():
    declared = Outer().declared()
    assert list(declared) == ['num_classes', 'image_shape', 'sizes', 'factor', 'mode']
    assert declared['mode'].choices == ('a', 'b')


def test_values_reach_the_group_that_declares_them():
    changed = Outer().changed({'sizes': [3, 4], 'factor': 5.0, 'unknown': 1})
    assert (changed.sizes, changed.inner.factor, changed.layer.options.factor) == ((3, 4), 5.0, 5.0)
    assert Outer().sizes == (1, 2)
    assert hash(changed)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'sizes': 3}, 'model.sizes: expected whole numbers of at least 1, got 3'),
        ({'sizes': (3, 0)}, 'model.sizes: expected whole numbers of at least 1'),
        ({'sizes': ()}, 'model.sizes: expected'),
        ({'factor': 'x'}, "model.factor: expected a number, got 'x'"),
        ({'mode': 'c'}, "model.mode: expected one of 'a', 'b', got 'c'"),
        ({'image_shape': (8, 8)}, r'model.image_shape: expected \(height, width, channels\)'),
    ],
)
def test_wrong_values(given, message):
    with pytest.raises(UserError, match=message):
        Outer().changed(given)


def test_a_default_of_none_needs_a_kind():
    declared = Declared(None, kind=(int,), length=2, at_least=0)
    assert all(map(declared.admits, (None, (0, 1), [3, 4])))
    assert not any(map(declared.admits, (3, (1,), (1, -1), (1.5, 2), 'ab', (True, 1))))


class Own(nnx.Module):
    """A user's model: keyword-only parameters are its options."""

    def __init__(self, *, image_shape, num_classes, depth=3, rngs):
        self.depth, self.num_classes, self.image_shape = depth, num_classes, image_shape


def test_a_users_class_is_a_recipe():
    made = recipe(Own)
    assert {name: one.default for name, one in made.declared().items()} == {
        'image_shape': (32, 32, 3),
        'num_classes': 10,
        'depth': 3,
    }
    model = made(depth=5, num_classes=4, rngs=nnx.Rngs(0))
    assert (model.depth, model.num_classes, model.image_shape) == (5, 4, (32, 32, 3))
    assert recipe(made) is made


def test_an_option_without_a_default_is_refused():
    def build(*, depth, rngs):
        raise AssertionError

    with pytest.raises(UserError, match=r'model\.depth: expected a default'):
        recipe(build)
