"""The programs in docs/data.md run as they stand."""

import os
import re
import subprocess
import sys

import pytest
import runs

PROGRAMS = re.findall(r'```python\n(.*?)```', (runs.ROOT / 'docs' / 'data.md').read_text(), re.DOTALL)


@pytest.mark.parametrize('program', PROGRAMS, ids=['from torch', 'to torch'])
def test_program(program, tmp_path):
    env = os.environ | {'FLAXNETS_CACHE': str(tmp_path), 'PYTHONPATH': str(runs.ROOT), 'XLA_FLAGS': ''}
    command = [sys.executable, '-W', 'error::DeprecationWarning:__main__', '-c', program]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
