"""docs/checkpoints.md reads a checkpoint with orbax alone, on other devices than wrote it."""

import os
import re
import subprocess
import sys

import numpy as np
import runs
import xla_flags

import train
from train.checkpointing.checkpoints import Checkpoints

LAST = "import sys; assert 'flaxnets' not in sys.modules and jax.device_count() == 1"


def test_a_checkpoint_of_several_devices_is_read_on_one(tmp_path):
    config = runs.digits(tmp_path, epochs=1, parallel='fsdp', devices=4, data__limit=128)
    train.run(config, tmp_path / 'runs' / 'mine')
    page = (runs.ROOT / 'docs' / 'checkpoints.md').read_text()
    (program,) = re.findall(r'^```python\n(.*?)^```', page, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, '-c', f"{program}\n{LAST}\nnp.savez('values.npz', **state['params'])"],
        cwd=tmp_path,
        env=os.environ | {'XLA_FLAGS': xla_flags.QUICKLY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'layers/0/kernel (3, 3, 1, 4) float32' in done.stdout
    checkpoints = Checkpoints(tmp_path / 'runs' / 'mine', read_only=True)
    expected = checkpoints.values(checkpoints.find('last'))
    checkpoints.close()
    with np.load(tmp_path / 'values.npz') as values:
        for path, value in expected.items():
            np.testing.assert_array_equal(values[path], value)
