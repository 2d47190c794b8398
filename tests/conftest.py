"""Tests see eight CPU devices, so that what runs on many can be tested on any machine."""

import os
import pathlib

import xla_flags

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {xla_flags.devices(8)}'

# What one test compiles, another need not: the suite builds the same small models over and over.
CACHE = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'xla'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')


# They start programs and wait for them. Begun last, one would keep a worker busy when the others are done.
LONG = ['test_install', 'test_processes', 'test_reliability', 'test_readme', 'test_parallel']


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [*LONG, item.path.stem].index(item.path.stem))
