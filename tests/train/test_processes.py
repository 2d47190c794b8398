"""Two processes of two devices each compute what one process does, and neither waits for a dead one."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
import runs
import xla_flags

import train
from flaxnets.errors import UserError
from train import config_flags
from train.checkpointing.checkpoints import committed
from train.distributed import processes
from train.reporting import console

# Well over what a start takes on a busy machine.
PATIENCE = 300
# In seconds; long enough for a start, short enough to wait for.
TIMEOUT = 60


@pytest.fixture
def environment(tmp_path):
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(('SLURM', 'OMPI', 'JAX'))
    }
    return ours | {
        'XLA_FLAGS': xla_flags.devices(2),
        'JAX_PLATFORMS': 'cpu',
        'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compiled'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'PYTHONPATH': str(runs.ROOT),
    }


def write_config(tmp_path, **changes):
    """A config file of a small model with batch norm and dropout, in float64."""
    config = runs.digits(
        tmp_path,
        epochs=12,
        parallel='jit',
        precision='float64',
        optimizer__name='sgd',
        optimizer__learning_rate=0.1,
        checkpoint__every='2 steps',
        log__every=2,
        **changes,
    )
    config.model = {'name': 'profiled_cnn', 'widths': (4, 8), 'hidden': (16, 8), 'dropout': (0.2, 0.1)}
    path = tmp_path / 'tiny.py'
    path.write_text(
        'import json\nfrom train import config\n'
        f'get_config = lambda: config.validate(json.loads({json.dumps(config.to_dict())!r}))\n'
    )
    return config, path


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def launch(environment, config, workdir, *flags, launcher='flags', each=((), ())):
    """Both processes, started by flags, by environment variables or as SLURM starts tasks."""
    port = free_port()
    started = []
    for i in range(2):
        arguments, variables = [], {}
        if launcher == 'flags':
            arguments = [f'--coordinator=127.0.0.1:{port}', '--processes=2', f'--process_id={i}']
        elif launcher == 'environment':
            variables = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}', 'JAX_NUM_PROCESSES': '2'}
            variables['JAX_PROCESS_ID'] = str(i)
        else:
            variables = {'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': '127.0.0.1', 'SLURM_NTASKS': '2'}
            variables |= {'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i), 'JAX_COORDINATOR_PORT': str(port)}
        command = [sys.executable, '-m', 'train', f'--config={config}', f'--workdir={workdir}']
        command += [f'--process_timeout={TIMEOUT}', *flags, *each[i], *arguments]
        started.append(
            subprocess.Popen(
                command,
                cwd=pathlib.Path(config).parent,
                env=environment | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def reach(started, workdir, step):
    """Waits for a checkpoint of `step` or later."""
    until = time.monotonic() + PATIENCE
    while max(committed(workdir / 'checkpoints'), default=0) < step:
        assert all(p.poll() is None for p in started), [p.communicate() for p in started]
        assert time.monotonic() < until
        time.sleep(0.01)


def ends(started):
    """(exit code, output, errors) of both."""
    outputs = [process.communicate(timeout=PATIENCE) for process in started]
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


def rows(workdir):
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in console.VARYING_KEYS} for line in lines]


def test_two_processes_killed_stopped_and_resumed_are_one(tmp_path, environment):
    config, path = write_config(tmp_path)
    config.parallel = 'single'
    train.run(config, tmp_path / 'one')
    workdir = tmp_path / 'two'

    started = launch(environment, path, workdir, '--process_timeout=10')
    reach(started, workdir, 4)
    started[1].kill()
    killed = time.monotonic()
    (code, _, errors), _ = ends(started)
    assert time.monotonic() - killed < 60
    assert code != 0, errors
    assert 'another' in errors, errors

    started = launch(
        environment,
        path,
        workdir,
        '--config.parallel=fsdp',
        '--config.data.placement=stream',
        launcher='slurm',
    )
    reach(started, workdir, committed(workdir / 'checkpoints')[-1] + 4)
    started[1].send_signal(signal.SIGTERM)
    for code, _, errors in ends(started):
        assert code == 128 + signal.SIGTERM, errors
        assert 'stopped by SIGTERM' in errors

    reported = '--config.log.report=true'
    started = launch(environment, path, workdir, '--config.parallel=pmap', reported, launcher='environment')
    (code, output, errors), second = ends(started)
    assert code == 0, errors
    assert (second[0], second[2]) == (0, ''), second
    assert 'resumed at step' in output
    assert '4 x cpu, 2 processes' in output
    assert output.splitlines()[-1] == f'report      {workdir / "report" / "index.html"}'
    one, two = rows(tmp_path / 'one'), rows(workdir)
    assert [row['epoch'] for row in two] == list(range(1, 13))
    for expected, got in zip(one, two, strict=True):
        assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (
            jax.errors.JaxRuntimeError('UNKNOWN: Gloo all-reduce failed\nat pair.cc'),
            'UNKNOWN: Gloo all-reduce failed;',
        ),
        (TimeoutError(), 'TimeoutError;'),
    ],
)
def test_a_lost_process_is_one_line(monkeypatch, error, reason):
    with pytest.raises(type(error)), processes.explained():
        raise error
    monkeypatch.setattr(processes, 'count', lambda: 2)
    line = f'^process 0 of 2: another process has ended .* output: {reason}'
    with pytest.raises(UserError, match=line), processes.explained():
        raise error


def test_processes_that_disagree_say_what_about(tmp_path, environment):
    _, path = write_config(tmp_path)
    started = launch(environment, path, tmp_path / 'run', each=((), ('--config.seed=1',)))
    for code, _, errors in ends(started):
        assert code == 2
        assert errors.startswith(
            'error: processes disagree about config.seed: 0 in process 0, 1 in process 1'
        )
        assert errors.count('\n') == 1


def test_a_process_that_stays_alone_gives_up(tmp_path, environment):
    _, path = write_config(tmp_path)
    started = launch(environment, path, tmp_path / 'run', '--process_timeout=3')
    started[1].kill()
    (code, _, errors), _ = ends(started)
    assert code == 2
    assert 'error: processes: expected 2 to meet at 127.0.0.1:' in errors
    assert errors.count('\n') == 1


SLURM = {'SLURM_NTASKS': '2', 'SLURM_STEP_NODELIST': 'node[1-2]'}
MPI = {'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '1'}
THREE = {'coordinator_address': 'host:1', 'num_processes': 2, 'process_id': 1}
VARIABLES = {'JAX_COORDINATOR_ADDRESS': 'host:1', 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '1'}
REQUESTS = [
    ((None, None, None), {}, None),
    ((None, None, None), {'SLURM_NTASKS': '2'}, None),  # inside a batch script, not started by srun
    ((None, None, None), SLURM | {'SLURM_NTASKS': '1'}, None),
    ((None, None, None), SLURM, {}),
    ((None, None, None), MPI, {}),
    ((None, 0, None), {}, {'coordinator_address': None}),
    (('host:1', 2, 1), SLURM, THREE),
    ((None, None, None), VARIABLES, THREE),
    ((None, None, 0), VARIABLES, THREE | {'process_id': 0}),
]


@pytest.fixture
def no_launcher(monkeypatch):
    for name in {*SLURM, *MPI, *VARIABLES}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(('flags', 'variables', 'expected'), REQUESTS)
@pytest.mark.usefixtures('no_launcher')
def test_who_asks_for_several_processes(monkeypatch, flags, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.requested(*flags) == expected


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ('--coordinator=host:1', '--processes, --process_id: expected with --coordinator'),
        ('--coordinator=host --processes=2 --process_id=0', "expected HOST:PORT, .*got 'host'"),
        ('--coordinator=host:1 --processes=2 --process_id=2', '--process_id: expected 0 to 1, got 2'),
        ('--processes=two', "--processes: invalid int value: 'two'"),
        ('--process_timeout=0', '--process_timeout: expected at least 1 second, got 0'),
    ],
)
@pytest.mark.usefixtures('no_launcher')
def test_process_flags_that_do_not_fit(flags, message):
    def request():
        _, found = config_flags.of_processes(['train', *flags.split()])
        return processes.requested(found.coordinator, found.processes, found.process_id)

    with pytest.raises(UserError, match=message):
        request()


def test_process_flags_may_stand_anywhere():
    argv = ['train', '--config', 'a.py', '--processes=2', '--config.seed=1', '--workdir', 'b']
    rest, found = config_flags.of_processes(argv)
    assert rest == ['train', '--config', 'a.py', '--config.seed=1', '--workdir', 'b']
    assert (found.processes, found.process_id) == (2, None)
