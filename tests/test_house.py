"""The walls of the house: who may import whom, who may touch devices and files, and the README's map."""

import ast
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted([*ROOT.glob('flaxnets/**/*.py'), *ROOT.glob('train/**/*.py'), *ROOT.glob('configs/*.py')])
# Every line imports lines above it only. What is not named, commands above all, stands wherever it makes
# no cycle.
ORDER = """
flaxnets.errors
flaxnets.layers.onednn
flaxnets.layers.product
flaxnets.layers.init
flaxnets.options
flaxnets.layers
flaxnets.models
flaxnets.interop.layouts
flaxnets.interop.maps
flaxnets.registry
flaxnets.interop
flaxnets
train.terminal train.combinations
train.config
train.recipes train.metrics train.progress train.runtime.causes train.memory train.provenance train.published
train.runtime.compilations
train.state
train.optim
train.data
train.step
train.distributed
train.checkpointing
train.runtime
train.reporting
train.build
train.experiment
train.header train.summary train.pace train.outcome
train.loop train.classifier train.restored
train
train.config_flags
train.cli
train.torch_reference
train.benchmarks
train.models
train.reproduction
"""
RANK = {name: rank for rank, line in enumerate(ORDER.split('\n')) for name in line.split()}


def name(path):
    return str(path.relative_to(ROOT))


def module(path: pathlib.Path) -> str:
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


MODULES = {module(path): path for path in FILES}


def imports(path, *, top_level=False):
    """All names that a file imports, in functions too: modules, and what is imported from them."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{name(path)}: imports are absolute'
            names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return names


def packages(path, **kwargs):
    return {name.split('.')[0] for name in imports(path, **kwargs)}


def edges() -> Iterator[tuple[str, str]]:
    """Every import between files of ours. `from package import module` is one of the module."""
    for importer, path in MODULES.items():
        names = imports(path) & set(MODULES)
        for imported in names:
            if not any(name.startswith(imported + '.') for name in names):
                yield importer, imported


def room(module: str) -> str:
    """The line of ORDER that a module belongs to: its package, or itself."""
    while module not in RANK and '.' in module:
        package = module.rpartition('.')[0]
        if package in ('train', 'flaxnets'):
            break
        module = package
    return module


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes of a directed graph's cycles, and of ways from one to another; none where it has no cycle."""
    graph = dict(graph)
    while True:
        reached = {target for targets in graph.values() for target in targets}
        ends = [node for node, targets in graph.items() if not targets & set(graph) or node not in reached]
        if not ends:
            return sorted(graph)
        for node in ends:
            del graph[node]


def graph(pairs) -> dict[str, set[str]]:
    nodes: dict[str, set[str]] = {}
    for source, target in pairs:
        nodes.setdefault(target, set())
        if source != target:
            nodes.setdefault(source, set()).add(target)
    return nodes


def test_no_file_imports_upwards():
    wrong = [
        f'{importer} -> {imported}'
        for importer, imported in edges()
        if room(importer) != room(imported)
        and RANK.get(room(imported), -1) >= RANK.get(room(importer), len(RANK))
    ]
    assert not wrong


def test_no_import_goes_in_a_circle():
    assert cycle(graph(edges())) == []


def test_no_two_packages_import_each_other():
    folders = {m for m, path in MODULES.items() if path.name == '__init__.py'}
    # Files beside sub-packages tie these together: below some of them and above others.
    packages = folders - {folder.rpartition('.')[0] for folder in folders}
    pairs = [(a.rpartition('.')[0], b.rpartition('.')[0]) for a, b in edges()]
    assert cycle(graph((a, b) for a, b in pairs if {a, b} <= packages)) == []


def test_a_cycle_is_found():
    assert cycle({'a': {'b'}, 'b': {'c'}, 'c': {'b', 'd'}, 'd': set(), 'e': {'e'}}) == ['b', 'c', 'e']


@pytest.mark.parametrize('path', [p for p in FILES if name(p).startswith('flaxnets')], ids=name)
def test_the_library_knows_nothing_of_the_program(path):
    assert 'train' not in packages(path)


@pytest.mark.parametrize('path', [p for p in FILES if name(p).startswith('configs')], ids=name)
def test_a_config_imports_options_and_recipes_alone(path):
    allowed = {'train', 'train.config', 'train.recipes', 'ml_collections'}
    assert {m for m in imports(path) if m.split('.')[0] in ('train', 'flaxnets', 'jax')} <= allowed


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


def test_one_file_makes_the_console_and_its_colours():
    makers = [name(path) for path in FILES if re.search(r'\bConsole\(', path.read_text())]
    assert makers == ['train/terminal.py']


HEAVY = {'tensorflow_datasets', 'grain', 'sklearn', 'matplotlib', 'torch', 'tensorboardX'}


@pytest.mark.parametrize('path', [p for p in FILES if p.parent.name != 'torch_reference'], ids=name)
def test_heavy_imports_stand_where_they_are_used(path):
    assert not packages(path, top_level=True) & HEAVY


SCRIPTS = [p for p in ROOT.glob('train/[a-z]*.py') if '\nif __name__ ==' in p.read_text()]


def test_importing_the_program_is_light():
    code = f'import sys, flaxnets, train.loop; print(*sorted({HEAVY!r} & set(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize('command', ['train', *map(module, SCRIPTS)])
def test_help_does_not_wait_for_jax(command):
    heavy = {'jax', 'flax', 'optax', 'orbax'}
    code = f"""
import runpy, sys
sys.argv = ['', '--help']
try:
    runpy.run_module({command!r}, run_name='__main__')
except SystemExit:
    print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
    assert 'python -m train' in done.stdout


def test_no_file_is_named_utils():
    assert not [p for p in FILES if 'util' in p.stem]


def readme_map() -> dict[str, str]:
    """{path: what it says} of the README's map; a line's indentation says which folder it is in."""
    text = re.findall(r'^```text\n(.*?)^```', (ROOT / 'README.md').read_text(), re.DOTALL | re.MULTILINE)[-1]
    found, parents = {}, []
    for line in text.splitlines():
        indent, entry, meaning = re.fullmatch(r'( *)(\S+)\s+(.*)', line).groups()
        parents = [*parents[: len(indent) // 2], entry]
        found[''.join(parents)] = meaning
    return found


def test_the_map_shows_every_folder_and_only_what_there_is():
    shown = readme_map()
    there = {f'{name(path.parent)}/' for path in FILES}
    assert there - set(shown) == set()
    words = ' '.join([*shown, *shown.values()])
    commands = [p.name for p in ROOT.glob('train/[a-z]*.py') if '\nif __name__ ==' in p.read_text()]
    assert [command for command in commands if command not in words] == []
    for path, meaning in shown.items():
        assert (ROOT / path).exists(), path
        folder = ROOT / path if path.endswith('/') else (ROOT / path).parent
        for file in re.findall(r'\w+\.py', meaning):
            assert list(folder.rglob(file)), f'{path}: there is no {file}'


@pytest.mark.parametrize('command', ['train', 'train.evaluate'])
def test_a_python_without_our_packages_is_told_in_one_line(command):
    done = subprocess.run(
        [sys.executable, '-S', '-m', command, '--help'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (2, '', 1)
    assert f'error: {sys.executable} has no package jax; ' in done.stderr
    assert '. .venv/bin/activate' in done.stderr


PAGES = [
    *ROOT.glob('*.md'),
    *ROOT.glob('docs/*.md'),
    *ROOT.glob('examples/*.py'),
    *ROOT.glob('tests/**/*.py'),
]
# One word for one thing: what is not written, and what is written for it.
WORDS = {
    r'(?<![a-z])h[eo]ld(s|ing)?(?![a-z])': 'store, have, keep; acquire, of a lock; validation, of a split',
    r'\b(is|are|was|be) right\b|\bright (answer|class|key|label|prediction|shape)s?\b': 'correct',
    r'\blinear maps?\b': 'linear layer',
    r'\bweigh(s|ing)? the (branch|expert)': 'gate',
    r'\bseed 0\d\d\b': 'document',
    r'\b(one|factor|array|stage|value) a (channel|layer|line|file|class|replica)\b': 'per, or for each',
}


@pytest.mark.parametrize('words', WORDS)
def test_a_thing_has_one_word(words):
    pattern = re.compile(words, re.IGNORECASE)
    here = pathlib.Path(__file__)
    found = [
        f'{name(path)}:{number}: {line.strip()}'
        for path in [*FILES, *PAGES]
        if path != here
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f'write: {WORDS[words]}'
