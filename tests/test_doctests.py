"""The examples in docstrings compute what they show."""

import doctest
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SHOWN = sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for package in ('flaxnets', 'train')
    for path in (ROOT / package).rglob('*.py')
    if '>>>' in path.read_text()
)


@pytest.mark.parametrize('name', SHOWN)
def test_examples(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted
    assert not failed
