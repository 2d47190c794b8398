"""`python -m train.models`: what can be trained."""

import dataclasses
import io
import re
import sys
from contextlib import redirect_stdout

import jax
import jax.numpy as jnp
import pytest

import flaxnets
from flaxnets.layers.gather import rows
from flaxnets.layers.selection import most_similar
from flaxnets.layers.similarity import dot
from train import cli, models
from train.benchmarks.arithmetic import Arithmetic, arithmetic, multiply_adds


def output(*args: str) -> str:
    with redirect_stdout(io.StringIO()) as text:
        models.main(['models', *args])
    return text.getvalue()


def test_the_table_has_every_model_in_one_line():
    lines = output().splitlines()
    assert [line.split()[0] for line in lines[1:]] == flaxnets.list_models()
    row = next(line for line in lines if line.startswith('branching_attn'))
    assert '604,794      605,402' in row
    assert '138,357,544' in next(line for line in lines if line.startswith('vgg16'))


def test_a_models_options():
    text = output('vit', 'blocks=4', 'heads=6', 'width=12', 'position=learned', 'activation=gelu')
    assert '6,917 parameters' in text
    assert 'softmax' not in text.splitlines()[0]
    rows = [line.split() for line in text.splitlines()]
    assert ['blocks', '6', '4', 'number'] in [row[:4] for row in rows]
    assert ['position', 'cosine', 'learned'] in [row[:3] for row in rows]
    assert ['patch_size', '4'] in [row[:2] for row in rows]
    assert ['param_dtype', 'float32'] in [row[:2] for row in rows]
    assert "a divisor of the image's sides" in text
    assert 'with those the document never uses' in output('attention')


def test_values_are_python_or_words():
    given = ['widths=(4, 8)', 'residual=1', 'skip=true', 'activation=tanh', 'dtype=bfloat16']
    options = models.parse('mnist_cnn', given)
    assert options == {
        'widths': (4, 8),
        'residual': 1,
        'skip': True,
        'activation': 'tanh',
        'dtype': 'bfloat16',
    }
    assert 'multiply-adds' in output('mnist_cnn', *given)
    assert models.parse('mlp', ['hidden=7']) == {'hidden': (7,)}


@pytest.mark.parametrize(('name', 'last'), [('convnn_attn', 'head'), ('vgg16', 'fc3')])
def test_tabulate_names_every_module(name, last):
    text = output('--tabulate', name)
    assert f'│ {last} ' in text
    assert f'{flaxnets.count_parameters(models.abstract(name, {})[0]):,}' in text
    assert '\x1b' not in text


@pytest.mark.parametrize(
    ('args', 'line'),
    [
        (['vti'], "model.name: there is no model 'vti'. Did you mean vit or vit_tiny?"),
        (['vit', 'head=8'], 'model.head: vit has no such option. Did you mean heads'),
        (['vit', 'heads'], "command line: expected OPTION=VALUE, got 'heads'"),
        (['vit', 'heads=three'], 'config.model.heads: expected'),
        (['vit', 'heads=3'], 'model.heads: expected a divisor of the width, 8, got 3'),
        (['vgg16', 'hidden=5'], 'config.model.hidden: expected 2 whole numbers of at least 1, got (5,)'),
        (['--tabulate'], '--tabulate: expected the name of a model'),
        (['--tabular'], 'command line: there is no option --tabular. Did you mean --tabulate?'),
    ],
)
def test_mistakes_are_one_line(args, line, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['models', *args])
    assert cli.guarded(models.main, sys.argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {line}')
    assert error.count('\n') == 1


def test_a_model_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / 'own.py').write_text(
        'from flax import nnx\n'
        'class Own(nnx.Module):\n'
        '    """One linear layer."""\n'
        '    def __init__(self, *, num_classes, image_shape, dtype=None, param_dtype=None, rngs):\n'
        '        height, width, channels = image_shape\n'
        '        self.map = nnx.Linear(height * width * channels, num_classes, rngs=rngs)\n'
        '    def __call__(self, images, *, rngs=None):\n'
        '        return self.map(images.reshape(len(images), -1))\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = output('own:Own', 'num_classes=3')
    assert f'{(32 * 32 * 3 + 1) * 3:,} parameters, {32 * 32 * 3 * 3:,} multiply-adds' in text


def test_the_cost_of_choosing_neighbours():
    keys, queries = (jax.ShapeDtypeStruct((2, n, 3), jnp.float32) for n in (5, 40))

    def cost(way, count):
        return arithmetic(lambda k, q: way(k, q, count), keys, queries)

    def chosen(keys, queries, count):
        return most_similar(dot, keys, queries, count)

    def gathered(keys, queries, count):
        return rows(queries, jnp.moveaxis(chosen(keys, queries, count), 0, -1))

    one, two, three = (cost(chosen, count) for count in (1, 2, 3))
    assert one.multiply_adds == one.between_tokens == 2 * 5 * 40 * 3
    assert one.gathered == 0
    assert (
        one.comparisons >= 2 * 5 * 40
    )  # each similarity is looked at, and a round costs the same as another
    assert three.comparisons - two.comparisons == two.comparisons - one.comparisons > 0
    assert dataclasses.replace(one, gathered=2 * 5 * 3) == cost(gathered, 1)
    assert cost(gathered, 3).gathered == 3 * 2 * 5 * 3
    assert arithmetic(lambda k: jnp.max(k @ k.swapaxes(1, 2), 1), keys) == Arithmetic(2 * 5 * 5 * 3)


def test_a_model_with_neighbours_says_what_they_cost():
    counts = (
        r'choosing neighbours: [\d,]{6,} of the multiply-adds, and [\d,]{6,} comparisons; [\d,]{6,} values'
    )
    assert re.search(counts, output('convnn_all'))
    assert 'choosing neighbours' not in output('vgg11', 'layer=conv')


def test_multiply_adds():
    """Products of matrices, in batches and in loops too, and convolutions, in groups too."""
    x, w = jax.ShapeDtypeStruct((4, 5, 3), jnp.float32), jax.ShapeDtypeStruct((3, 7), jnp.float32)
    assert multiply_adds(lambda x, w: jnp.tanh(x @ w), x, w) == 4 * 5 * 3 * 7
    assert multiply_adds(jax.jit(jax.vmap(lambda x: x @ x.T)), x) == 4 * 5 * 5 * 3
    assert multiply_adds(lambda x: jax.lax.scan(lambda c, x: (c, x @ x.T), 0, x)[1], x) == 4 * 5 * 5 * 3

    def convolution(image, kernel, groups):
        return jax.lax.conv_general_dilated(
            image,
            kernel,
            (2, 2),
            'SAME',
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=groups,
        )

    image = jax.ShapeDtypeStruct((1, 8, 6, 4), jnp.float32)
    for groups in (1, 2):
        kernel = jax.ShapeDtypeStruct((3, 3, 4 // groups, 10), jnp.float32)
        count = multiply_adds(lambda x, k, groups=groups: convolution(x, k, groups), image, kernel)
        assert count == (4 * 3 * 10) * (3 * 3 * 4 // groups)
