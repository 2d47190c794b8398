"""The table of docs/parallel.md is the program's, and the SLURM script does what it says."""

import os
import stat
import subprocess

import pytest
import runs

from train import cli, scaling


def test_the_page_has_the_table():
    assert scaling.table() in (runs.ROOT / 'docs' / 'parallel.md').read_text()


def test_a_row_from_first_principles():
    row = scaling.row('mlp', devices=4, speed=1e12, latency=0)
    assert row.parameters == 784 * 50 + 50 + 50 * 50 + 50 + 50 * 10 + 10
    assert row.multiply_adds == 784 * 50 + 50 * 50 + 50 * 10
    assert row.sent == 2 * 3 / 4 * 4 * row.parameters
    images = row.hidden['100 Gb Ethernet'] // 4
    seconds = row.sent / 12.5e9
    assert 4 * row.multiply_adds * (images - 1) / 1e12 < seconds <= 4 * row.multiply_adds * images / 1e12


def test_the_command_names_mistakes(capsys):
    assert cli.guarded(scaling.main, ['scaling', '--devices=1']) == 2
    assert 'expected --devices of at least 2' in capsys.readouterr().err


@pytest.mark.parametrize(('code', 'requeued'), [(0, False), (2, False), (143, True)])
def test_the_slurm_script_requeues_what_the_time_limit_stopped(tmp_path, code, requeued):
    for name, text in (('srun', f'echo srun "$@"; exit {code}'), ('scontrol', 'echo scontrol "$@"')):
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\n{text}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '42'}
    script = [str(runs.ROOT / 'examples' / 'slurm.sh'), '--config', 'configs/vgg16.py']
    done = subprocess.run(script, check=False, env=environment, capture_output=True, text=True)
    started, *rest = done.stdout.splitlines()
    assert started.endswith('-m train --workdir runs/slurm-42 --config configs/vgg16.py')
    assert rest == (['scontrol requeue 42'] if requeued else [])
    assert done.returncode == (0 if requeued else code)


def test_the_slurm_script_without_slurm_says_how_to_start_it():
    script = str(runs.ROOT / 'examples' / 'slurm.sh')
    done = subprocess.run(
        [script], check=False, env={'PATH': os.environ['PATH']}, capture_output=True, text=True
    )
    assert done.returncode
    assert done.stdout == ''
    assert 'start it with: sbatch examples/slurm.sh' in done.stderr
    assert done.stderr.count('\n') == 1
