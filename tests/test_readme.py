"""Every command and program in README, CONTRIBUTING, docs/ and examples/ is run, long ones shortened."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import runs
import tiny_sets
import xla_flags

PAGES = sorted([*runs.ROOT.glob('*.md'), *runs.ROOT.glob('docs/*.md')])
SHORT = ['epochs=1', 'data.limit=64', 'parallel=single', 'log.tensorboard=false', 'log.report=false']
SHORT = [f'--config.{setting}' for setting in SHORT]
# Commands that would take long or need what a test does not have, and what is run in their place.
INSTEAD = {
    '. .venv/bin/activate': 'make -n train',
    'make test': 'make -n test',
    'make lint': 'make -n lint',
    'make train': 'make -n train',
    'python -m train.prepare cifar10': 'python -m train.prepare --help',
    'python -m train.benchmark --data --json numbers.json': 'python -m train.benchmark --help',
    'python -m train.benchmark --config configs/branching_attn.py --against torch': 'python -m train --help',
    'python -m train.benchmark --config configs/branching_attn.py --config configs/vit.py --against torch '
    '--json cpu.json': 'python -m train.benchmark --help',
    'python -m train.benchmark --from cpu.json --into docs/speed.md': 'python -m train.benchmark --help',
    'python -m train.profile --config configs/branching_attn.py': 'python -m train.profile --help',
    'python -m train.benchmarks.layers': 'python -m train.benchmarks.layers --help',
}


def blocks(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE)


def every(language):
    """All blocks of a language, with the page they stand on."""
    return [
        pytest.param(block, id=f'{page.stem}-{block.splitlines()[0]}')
        for page in PAGES
        for block in blocks(page, language)
    ]


def run(command, cwd, **variables):
    ours = {'PYTHONPATH': str(runs.ROOT), 'XLA_FLAGS': xla_flags.QUICKLY, 'HOME': str(cwd)}
    environment = os.environ | ours | variables
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
    return done.stdout


def split(line):
    """The words of a command and the variables set in front of them."""
    words = shlex.split(line)
    variables = {}
    while re.match(r'[A-Z_]+=', words[0]):
        name, _, value = words.pop(0).partition('=')
        variables[name] = value
    return words, variables


def shortened(words, workdir):
    """A command to train on a few images; its own settings stay."""
    taken = {word.partition('=')[0] for word in words}
    words += [setting for setting in SHORT if setting.partition('=')[0] not in taken]
    return words if '--workdir' in words else [*words, '--workdir', str(workdir)]


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A user's home and checkout in one: a few images wherever a page says that data may be, and a run."""
    path = tmp_path_factory.mktemp('user')
    for name in ('configs', 'examples', 'tests', 'Makefile', 'pyproject.toml', 'constraints.txt'):
        (path / name).symlink_to(runs.ROOT / name)
    cifar = tiny_sets.arrays()
    tiny_sets.write_tfds(cifar, 'cifar10', path / 'tensorflow_datasets')
    tiny_sets.write_cifar10(cifar, path / 'pytorch' / 'data')
    tiny_sets.write_folder(cifar, path / 'pictures' / 'flowers', tiny_sets.CIFAR10)
    tiny_sets.write_idx(tiny_sets.arrays((28, 28, 1)), path / 'data' / 'MNIST' / 'raw')
    tiny_sets.write_idx(tiny_sets.arrays((28, 28, 1)), path / 'tensorflow_datasets' / 'MNIST' / 'raw')
    train = [sys.executable, '-m', 'train', '--config', 'configs/mnist.py:exercise=1,digits', *SHORT]
    run([*train, '--workdir', 'runs/mine'], path)
    for name in ('block_cnn/10', 'vit/learned-relu', 'profiled/vgg16', 'mnist/2', 'mnist/6b'):
        place = path / 'runs' / 'reproduce' / f'{name}-seed0'
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path / 'runs' / 'mine')
    return path


@pytest.mark.parametrize('block', every('sh'))
def test_commands(block, home, tmp_path):
    for i, line in enumerate(filter(None, block.splitlines())):
        words, variables = split(INSTEAD.get(line, line))
        if words[:3] == ['python', '-m', 'train'] and '--config' in words:
            words = shortened(words, tmp_path / str(i))
        if words[:3] == ['python', '-m', 'pytest']:  # tests of tests would not end
            words += ['--collect-only', '-n', '0', 'tests/test_house.py']
        if words[0] == 'python':
            words[0] = sys.executable
        assert run(words, home, **variables).strip()


@pytest.mark.parametrize('program', every('python'))
def test_programs(program, home):
    run([sys.executable, '-c', program], home)


# A config is run where a page names it.
EXAMPLES = [p for p in sorted(runs.ROOT.glob('examples/*.py')) if 'def get_config' not in p.read_text()]


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_examples(path, home):
    assert f'python examples/{path.name}' in path.read_text()
    printed = run([sys.executable, str(path)], home)
    losses = [float(loss) for loss in re.findall(r'^epoch.* loss ([\d.]+)', printed, re.MULTILINE)]
    assert not losses or losses[-1] <= losses[0]


def test_every_example_is_on_a_page():
    pages = ''.join(page.read_text() for page in PAGES)
    assert [p.name for p in runs.ROOT.glob('examples/*.*') if p.name not in pages] == []


def test_make_targets():
    assert blocks(runs.ROOT / 'README.md', 'sh')[0] == 'make train\nmake test\n'
    train = run(['make', '-n', 'train'], runs.ROOT)
    assert '-m train --config configs/branching_attn.py:digits' in train
    tests = run(['make', '-n', 'test'], runs.ROOT)
    for word in ('ruff check', 'ruff format --check', 'mypy', 'pytest'):
        assert word in tests
    for ci in ('.ci/run', '.github/workflows/ci.yml'):
        assert (runs.ROOT / ci).read_text().strip().endswith('make test')


def test_the_readme_is_short():
    assert len((runs.ROOT / 'README.md').read_text().splitlines()) <= 150


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_what_a_page_refers_to_exists(page):
    text = page.read_text()
    for target in re.findall(r'\]\((?!http)([^)#]+)', text):
        assert (page.parent / target).exists(), target
    tests = {path.name: path.read_text() for path in runs.ROOT.glob('tests/**/test_*.py')}
    for file, name in re.findall(r'(test_\w+\.py)::(\w+)', text):
        assert f'def {name}' in tests[file], f'{file}::{name}'
