"""`config.convolution`: what a run with oneDNN's convolutions computes, stores and says."""

import json

import jax
import numpy as np
import pytest
import runs
from flax import nnx

import flaxnets
import train
from flaxnets.layers import onednn
from train import config as options
from train import evaluate, recipes
from train.distributed.convolutions import by_onednn
from train.distributed.devices import Devices

needed = pytest.mark.skipif(not onednn.available(), reason='this jaxlib or machine has no tested oneDNN')


@needed
@pytest.mark.parametrize('changes', [{}, {'replicas': 2}], ids=['one run', 'replicas'])
def test_a_run_has_xlas_scores_and_the_same_bits_again(changes, tmp_path, capsys):
    def losses(name, convolution, **more):
        config = runs.digits(tmp_path, convolution=convolution, **changes | more)
        train.run(config, tmp_path / name)
        lines = (tmp_path / name / 'metrics.jsonl').read_text().splitlines()
        return [json.loads(line)['train_loss'] for line in lines]

    auto = losses('auto', 'auto')
    assert 'convolutions and products by oneDNN' in capsys.readouterr().out
    losses('again', 'auto', epochs=1)
    assert losses('again', 'auto') == auto  # resumed, to the bit
    capsys.readouterr()
    np.testing.assert_allclose(auto, losses('xla', 'xla'), rtol=1e-4)
    assert 'oneDNN' not in capsys.readouterr().out
    summary = json.loads((tmp_path / 'auto' / 'summary.json').read_text())
    assert evaluate.evaluate(tmp_path / 'auto', checkpoint='last')['loss'] == summary['test_loss']


@needed
def test_its_programs_are_not_stored(tmp_path, monkeypatch):
    """JAX cannot store them."""
    stored = []
    monkeypatch.setattr('jax._src.compilation_cache.put_executable_and_time', lambda *a: stored.append(a[1]))
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    try:
        for convolution in ('auto', 'xla'):
            stored.clear()
            config = runs.digits(tmp_path, convolution=convolution, epochs=1, model__width=5)
            train.run(config, tmp_path / convolution)
            steps = {'jit_train_step', 'jit_eval_step'} & set(stored)
            assert bool(steps) == (convolution == 'xla')
    finally:
        jax.config.update('jax_persistent_cache_min_compile_time_secs', before)


def test_where_it_is_used(tmp_path):
    def used(parallel='single', **changes):
        config = runs.digits(tmp_path, **{'convolution': 'auto'} | changes)
        return by_onednn(config, Devices.create(parallel))

    assert used() == onednn.available()
    assert not used('jit')  # the tests' process has several devices
    assert not used(precision='bfloat16')
    assert not used(convolution='xla')


@needed
@pytest.mark.parametrize('model', ['cnn', 'attention', 'convnn_all', 'branching_all', 'branching_attn'])
def test_a_recipe_asks_for_it_where_a_model_has_convolutions(model):
    config = options.defaults()
    recipes.convnn(config, model, layers=2)
    shapes = nnx.eval_shape(
        lambda: flaxnets.create_model(
            model, num_layers=2, num_classes=10, image_shape=(32, 32, 3), rngs=nnx.Rngs(0)
        )
    )
    graph, values = nnx.split(shapes)

    def scores(values, images):
        with onednn.used():
            return nnx.merge(graph, values)(images, rngs=nnx.Rngs(0))

    program = str(jax.make_jaxpr(scores)(values, jax.ShapeDtypeStruct((2, 32, 32, 3), 'float32')))
    assert ('onednn' in program) == (config.convolution == 'auto')
