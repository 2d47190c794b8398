"""What a newcomer gets: `pip install .` alone, in a fresh virtual environment, and not a word on stderr."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import runs

PROGRESS = re.compile(r'  (\d+ (h|min|s) ?)+(left)?$')
# What pytest's own environment changes, and a newcomer's does not have.
OURS = ('PYTHONPATH', 'PYTHONWARNINGS', 'XLA_FLAGS', 'FLAXNETS_CACHE', 'VIRTUAL_ENV')


def environment(home: pathlib.Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in OURS and not k.startswith('JAX_')}
    return kept | {'HOME': str(home), 'JAX_PLATFORMS': 'cpu'}


@pytest.fixture
def python(tmp_path):
    """The Python of a new environment with the package and what it requires."""
    # Of a copy: a build in the checkout would leave a folder there, and may take files from an older one.
    source = tmp_path / 'source'
    for package in ('flaxnets', 'train'):
        shutil.copytree(runs.ROOT / package, source / package, ignore=shutil.ignore_patterns('__pycache__'))
    for file in ('pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(runs.ROOT / file, source)
    venv = tmp_path / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
    python = venv / 'bin' / 'python'
    # As in the Makefile: the pinned versions are Python 3.11's.
    pins = ['-c', runs.ROOT / 'constraints.txt'] if sys.version_info[:2] == (3, 11) else []
    pip = [python, '-m', 'pip', '--disable-pip-version-check', 'install', '-q', *pins, source]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f'pip install . failed (it needs a package index):\n{done.stderr}'
    yield python
    shutil.rmtree(venv)  # a gigabyte, which pytest would keep for three runs


@pytest.mark.install
def test_a_plain_install_works_without_a_warning(python, tmp_path):
    user = tmp_path / 'user'
    shutil.copytree(runs.ROOT / 'configs', user / 'configs')

    def run(module, *arguments):
        done = subprocess.run(
            [python, '-m', module, *arguments],
            cwd=user,
            env=environment(user),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f'{module}:\n{done.stdout}{done.stderr}'
        # On a slow machine a line of progress each few seconds, and nothing else.
        unasked = [line for line in done.stderr.splitlines() if not PROGRESS.search(line)]
        assert not unasked, f'{module} wrote to stderr'
        assert 'warning' not in done.stdout.lower(), module
        return done.stdout

    def compiled():
        """When each compiled program was last used."""
        return {file.name: file.read_bytes() for file in user.glob('.cache/flaxnets/xla/*-atime')}

    make_train = ['--config', 'configs/branching_attn.py:digits', '--config.epochs=1']
    short = ['--config.data.limit=128', '--config.model.num_layers=1']
    assert 'test accuracy' in run('train', *make_train, *short, '--workdir', 'first')
    first = compiled()
    assert first, 'the compilation cache is empty'
    assert 'test accuracy' in run('train', *make_train, *short, '--workdir', 'second')
    again = compiled()
    assert all(again[name] != used for name, used in first.items()), 'the second run compiled again'
    assert 'accuracy' in run('train.evaluate', '--workdir', 'first')
    assert 'branching_attn' in run('train.models')
    run('train.convert', '--from', 'first', '--to', 'weights.safetensors')
    assert (user / 'weights.safetensors').stat().st_size > 0
