"""A step's temporary arrays cost no page faults: they lie in huge pages, or their memory is kept."""

import os
import subprocess
import sys

import pytest

from train.runtime import allocator

COUNT = """
import resource
import sys
from train.runtime import allocator
if sys.argv[1] == 'keep':
    assert allocator.keep_memory()
import jax, jax.numpy as jnp
x = jnp.ones(25_000_000)  # 100 MB
add = jax.jit(lambda x: x + 1)
for _ in range(30):
    add(x).block_until_ready()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    add(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(20)))  # on a busy machine two calls may overlap, and take other memory
"""


CONFIG = """
import os
print('malloc:', os.environ.get('GLIBC_TUNABLES'), os.getpid())
"""


def faults(how: str, **variables: str) -> int:
    done = subprocess.run(
        [sys.executable, '-c', COUNT, how],
        env=free() | variables,
        text=True,
        check=True,
        stdout=subprocess.PIPE,
    )
    return int(done.stdout)


def free() -> dict[str, str]:
    """The environment of a user who has not set up malloc."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith('MALLOC_')}
    kept.pop('GLIBC_TUNABLES', None)
    return kept


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc')
def test_pages_are_touched_once():
    assert faults('keep') < 2000 < faults('give')
    if allocator.huge_pages():
        assert faults('huge', GLIBC_TUNABLES=allocator.TUNABLES) < 2000


def test_a_command_starts_again_where_there_are_huge_pages(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    command = [sys.executable, '-m', 'train', '--config', config]
    process = subprocess.Popen(
        command, env=free(), cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines, errors = process.communicate()
    expected = allocator.TUNABLES if sys.platform == 'linux' and allocator.huge_pages() else None
    assert lines.splitlines() == [f'malloc: {expected} {process.pid}'], errors
    assert 'get_config' in errors


def test_old_or_other_systems_have_none(monkeypatch, tmp_path):
    monkeypatch.setattr(os, 'confstr', lambda _: 'glibc 2.31')
    assert not allocator.huge_pages()
    monkeypatch.setattr(os, 'confstr', lambda _: 'glibc 2.36')
    monkeypatch.setattr(allocator, 'HUGE_PAGES', tmp_path / 'enabled')
    assert not allocator.huge_pages()
    for enabled, expected in (('always [madvise] never', True), ('always madvise [never]', False)):
        allocator.HUGE_PAGES.write_text(enabled)
        assert allocator.huge_pages() is expected


@pytest.mark.parametrize('name', ['GLIBC_TUNABLES', 'MALLOC_ARENA_MAX'])
def test_the_user_decides(monkeypatch, name):
    monkeypatch.setenv(name, '4')
    monkeypatch.setattr(os, 'execv', lambda *_: pytest.fail('started again'))
    assert not allocator.keep_memory()
    allocator.restart()
