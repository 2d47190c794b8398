"""`python -m train.profile`: every module has its line, and the numbers are those of the model."""

import json

import jax
import pytest
from flax import nnx

import flaxnets
from train import cli, profile
from train.benchmarks import modules, operators

SMALL = ['--config.data.batch_size=4', '--config.model.hidden=(8,8)', '--config.model.widths=(2,3,4,5,6)']
CONFIG = 'configs/profiled_cnn.py:digits'


def test_a_profile_has_a_line_for_every_module(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(modules, 'ROUNDS', 1)
    monkeypatch.setattr(operators, 'STEPS', 1)
    file, folder = tmp_path / 'numbers.json', tmp_path / 'trace'
    argv = ['profile', '--config', CONFIG, '--config', f'{CONFIG},pruned', '--compare', *SMALL]
    assert cli.guarded(profile.main, [*argv, '--json', str(file), '--trace', str(folder)]) == 0
    whole, pruned = json.loads(file.read_text())['profiles']
    kinds = [line['module'].split()[-1] for line in whole['modules']]
    assert kinds.count('Conv') == 5
    assert kinds.count('BatchNorm') == 5
    assert kinds.count('Linear') == 3
    assert sum(line['parameters'] for line in whole['modules'] if not line['depth']) == whole['parameters']
    first = whole['modules'][0]
    assert first['multiply_adds'] == 4 * 16 * 16 * 9 * 3 * 2  # batch, pixels, kernel, channels
    assert pruned['parameters'] < whole['parameters']
    assert whole['costliest'] in {line['module'] for line in whole['modules']}
    assert all(line['forward_seconds'] > 0 for line in whole['modules'])
    assert 0 < len(whole['operators']) <= 10
    assert any('conv' in line['operator'] for line in whole['operators'])
    around = whole['around_seconds']
    assert len(around) == 3
    assert min(around.values()) >= 0
    assert around['the optimiser'] > 0
    parts = whole['modules_seconds'] + sum(around.values()) + whole['other_seconds']
    assert parts == pytest.approx(whole['step_seconds']['median'])
    assert list(folder.glob('**/*.xplane.pb'))
    printed = capsys.readouterr().out
    for word in (
        'Costliest: ',
        'multiply-adds',
        'Memory of a step',
        'test accuracy',
        'no run',
        'times the modules',
    ):
        assert word in printed


def test_calls_are_those_of_the_model():
    options = {'num_layers': 2, 'width': 4, 'num_candidates': 9, 'num_neighbors': 3, 'image_shape': (8, 8, 3)}
    model = flaxnets.create_model('branching_attn', **options, rngs=nnx.Rngs(0))
    root = modules.calls(model, jax.ShapeDtypeStruct((2, 8, 8, 3), 'float32'))
    assert [call.path for call in root.children] == ['layers.0', 'layers.1', 'head']
    assert root.parameters == flaxnets.count_parameters(model)
    layer = root.children[0]
    assert layer.first
    assert not root.children[1].first
    assert {type(call.module).__name__ for call in modules.walk(layer)} >= {'Conv', 'NearestLayer'}
    assert not isinstance(next(iter(jax.tree.leaves(nnx.state(model)))), jax.core.Tracer)


def test_the_own_time_is_what_the_inner_calls_leave():
    inner = modules.Call('inner', nnx.Module(), (), {}, False, 0)
    outer = modules.Call('outer', nnx.Module(), (), {}, False, 0, [inner])
    costs = {id(inner): modules.Cost(1, 1.0, 2.0), id(outer): modules.Cost(1, 2.0, 5.0)}
    assert modules.parts(outer, costs) == {'outer Module': 4.0, 'inner Module': 3.0}


def test_operators_are_named_by_the_operation_they_are_part_of():
    program = """
      %dot.3 = f32[2,2]{1,0} dot(%a, %b), metadata={op_name="jit(f)/transpose(jvp(g))/dot_general" stack=1}
      ROOT convolution.1 = f32[2] convolution(a, b), metadata={op_name="jit(f)/conv_general_dilated"}
    """
    found = operators.operations(program)
    assert found == {'dot.3': ' of dot_general, backward', 'convolution.1': ' of conv_general_dilated'}
    assert operators.kind('dot.3.clone.1') == 'dot'


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'profile: expected --config FILE'),
        (['--config', CONFIG, '--compare'], '--compare: expected --config twice, got 1'),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    assert cli.guarded(profile.main, ['profile', *argv]) == 2
    assert message in capsys.readouterr().err
