"""Importing large packages quickly."""

import gc
import subprocess
import sys

import pytest

from train.runtime import imports


def test_the_collector_rests_while_packages_are_imported():
    with imports.uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()


def test_a_package_cannot_be_imported_meanwhile():
    sys.modules.pop('this', None)
    with imports.without('this'), pytest.raises(ImportError):
        import this  # noqa: F401
    assert 'this' not in sys.modules


def test_a_package_that_is_there_stays():
    with imports.without('gc'):
        import gc as again
    assert again is gc is sys.modules['gc']


def test_writing_curves_does_not_import_torch(tmp_path):
    code = (
        'import pathlib, sys; from train.reporting.tensorboard import Events; '
        'events = Events(pathlib.Path(sys.argv[1]), 0); events.add({"loss": 1.0}, 1); '
        'print("torch" in sys.modules)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ['False']
