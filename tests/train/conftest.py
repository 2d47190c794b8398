import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 300 KiB, where this process may mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(
            'this process may not mount a tmpfs; tests with a limit on the size of files replace this'
        )
    yield folder
    subprocess.run(['umount', str(folder)], check=True)
