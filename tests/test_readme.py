"""Every command and every program in the README is run: as it stands, or shortened where it is long."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import runs

README = (runs.ROOT / 'README.md').read_text()
SHORT = ['epochs=1', 'data.limit=64', 'parallel=single', 'log.tensorboard=false']
SHORT = [f'--config.{setting}' for setting in SHORT]
DIGITS = {
    'configs/branching_attn.py': 'configs/branching_attn.py:digits',
    'configs/mnist.py:exercise=6a': 'configs/mnist.py:exercise=6a,digits',
}


def blocks(language):
    return re.findall(rf'```{language}\n(.*?)```', README, re.DOTALL)


COMMANDS = [line for block in blocks('sh') for line in block.splitlines() if line]


def run(command, cwd):
    environment = os.environ | {'PYTHONPATH': str(runs.ROOT)}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
    return done.stdout


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A user's folder: the checkout's configs and the README's own file, with a short run in runs/mine."""
    path = tmp_path_factory.mktemp('user')
    (path / 'configs').symlink_to(runs.ROOT / 'configs')
    own = next(block for block in blocks('python') if 'class RowMean' in block)
    (path / 'row_mean.py').write_text(own)
    train = [sys.executable, '-m', 'train', '--config', 'configs/mnist.py:exercise=1,digits', *SHORT]
    run([*train, '--workdir', 'runs/mine'], path)
    return path


@pytest.mark.parametrize('block', [b for b in blocks('sh') if 'make' not in b])
def test_commands(block, folder, tmp_path):
    for command in filter(None, block.splitlines()):
        words = [sys.executable, *shlex.split(command)[1:]]
        if words[2] == 'train' and '--config' in words:
            words = [DIGITS.get(word, word) for word in words]
            words = [word for word in words if not word.startswith('--config.data.data_dir')]
            taken = {word.partition('=')[0] for word in words}
            words += [setting for setting in SHORT if setting.partition('=')[0] not in taken]
            words += ['--workdir', str(tmp_path / str(abs(hash(command))))]
        assert run(words, folder).strip()


def test_make_targets():
    assert [c for c in COMMANDS if not c.startswith('python -m')] == ['make train', 'make test']
    train = run(['make', '-n', 'train'], runs.ROOT)
    assert '-m train --config configs/branching_attn.py:digits' in train
    tests = run(['make', '-n', 'test'], runs.ROOT)
    for word in ('ruff check', 'ruff format --check', 'mypy', 'pytest'):
        assert word in tests
    assert (runs.ROOT / '.ci' / 'run').read_text().strip().endswith('make test')


@pytest.mark.parametrize('program', [b for b in blocks('python') if 'class RowMean' not in b])
def test_program(program, folder):
    short = program.replace('settings.epochs = 1\n', 'settings.epochs = 1\nsettings.data.limit = 64\n')
    run([sys.executable, '-c', short], folder)


def test_the_map_names_files_that_exist():
    text = blocks('text')[-1]
    names = re.findall(r'[\w/]+\.py|\w+/(?=\s)', text)
    found = {p.name for p in pathlib.Path(runs.ROOT).rglob('*.py') if '.venv' not in p.parts}
    found |= {p.name for p in runs.ROOT.rglob('*') if p.is_dir() and '.venv' not in p.parts}
    missing = [name for name in names if pathlib.Path(name).name not in found]
    assert not missing


def test_links_lead_somewhere():
    for target in re.findall(r'\]\((?!http)([^)#]+)', README):
        assert (runs.ROOT / target).exists(), target
