"""The walls of the house: who may import whom, and who may touch files."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted([*ROOT.glob('flaxnets/**/*.py'), *ROOT.glob('train/**/*.py'), *ROOT.glob('configs/*.py')])


def imports(path, *, top_level=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return names


def name(path):
    return str(path.relative_to(ROOT))


def packages(path, **kwargs):
    return {module.split('.')[0] for module in imports(path, **kwargs)}


@pytest.mark.parametrize('path', [p for p in FILES if name(p).startswith('flaxnets')], ids=name)
def test_the_library_knows_nothing_of_the_program(path):
    assert 'train' not in packages(path)


@pytest.mark.parametrize('path', [p for p in FILES if name(p).startswith('configs')], ids=name)
def test_a_config_imports_train_config_alone(path):
    allowed = {'train', 'train.config', 'ml_collections'}
    assert {m for m in imports(path) if m.split('.')[0] in ('train', 'flaxnets', 'jax')} <= allowed


def test_nothing_points_back():
    order = ['train.loop', 'train.experiment', 'train.distributed.devices', 'train.step', 'train.state']
    for position, module in enumerate(order):
        path = ROOT / (module.replace('.', '/') + '.py')
        assert not set(order[:position]) & imports(path), module


def test_a_step_does_no_input_or_output():
    used = packages(ROOT / 'train' / 'step.py')
    assert not used & {'os', 'pathlib', 'io', 'json', 'rich', 'logging', 'orbax', 'time'}
    source = (ROOT / 'train' / 'step.py').read_text()
    assert 'print(' not in source
    assert 'open(' not in source


def test_only_distributed_knows_the_devices():
    known = {
        'jax.devices(': 'devices',
        'device_count(': 'devices',
        'process_index(': 'processes',
        'process_count(': 'processes',
    }
    for path in FILES:
        for word, owner in known.items():
            if name(path) != f'train/distributed/{owner}.py':
                assert word not in path.read_text(), f'{name(path)}: {word}'


HEAVY = {'tensorflow_datasets', 'grain', 'sklearn', 'matplotlib', 'torch', 'tensorboardX'}


@pytest.mark.parametrize('path', [p for p in FILES if p.parent.name != 'torch_reference'], ids=name)
def test_heavy_imports_stand_where_they_are_used(path):
    assert not packages(path, top_level=True) & HEAVY


def test_importing_the_program_is_light():
    code = f'import sys, flaxnets, train.loop; print(*sorted({HEAVY!r} & set(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_file_is_named_utils():
    assert not [p for p in FILES if 'util' in p.stem]
