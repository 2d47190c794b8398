"""Several processes that compute together: starts and ends JAX's distributed runtime.

Every process runs the same program on the same config, sees the devices of all, and takes the same steps;
the first one writes the files. If only one process knows something (a signal, its clock), it must tell the
others before any of them acts on it; otherwise they wait for each other for ever.
"""

import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flaxnets.errors import UserError

# Environment variables that mpirun and srun set for each task: the number of tasks, and another one.
LAUNCHERS = {'SLURM_NTASKS': 'SLURM_STEP_NODELIST', 'OMPI_COMM_WORLD_SIZE': 'OMPI_COMM_WORLD_RANK'}
# Seconds that a failed process waits for the others, which may fail in the same way.
SHUTDOWN_SECONDS = 3.0


def count() -> int:
    """How many processes there are."""
    return jax.process_count()


def index() -> int:
    """The number of this process."""
    return jax.process_index()


def first() -> bool:
    """Whether this is the process that writes logs and files."""
    return index() == 0


def largest(value: int) -> int:
    """The largest of the processes' values, in all of them."""
    return value if count() == 1 else int(multihost_utils.process_allgather(np.int32(value)).max())


def wait() -> None:
    """Waits until all processes have come to this call."""
    largest(0)


def agree(facts: Mapping[str, Any]) -> None:
    """Raises a `UserError`, in all processes, if the facts of one differ from those of the first."""
    if count() == 1:
        return
    text = json.dumps(dict(facts), default=str).encode()
    padded = np.frombuffer(text.ljust(largest(len(text))), np.uint8)
    everyones = [json.loads(bytes(row)) for row in multihost_utils.process_allgather(padded)]
    for other, theirs in enumerate(everyones):
        for key in everyones[0] | theirs:
            one, another = everyones[0].get(key), theirs.get(key)
            if one != another:
                raise UserError(
                    f'processes disagree about {key}: {one!r} in process 0, {another!r} in process {other}; '
                    'start all of them with the same command, on the same files'
                )


def requested(
    coordinator: str | None, processes: int | None, process_id: int | None
) -> dict[str, Any] | None:
    """What to start JAX's distributed runtime with; None for a program of one process.

    Flags come first, then JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, then the variables
    of SLURM and Open MPI, which JAX itself reads. With `processes=0` JAX finds out by itself, as it can on
    TPU pods and in Kubernetes.

    Raises:
        UserError: some of the three are missing, or contradict each other.
    """
    environment = os.environ
    coordinator = coordinator or environment.get('JAX_COORDINATOR_ADDRESS')
    processes = _number('JAX_NUM_PROCESSES') if processes is None else processes
    process_id = _number('JAX_PROCESS_ID') if process_id is None else process_id
    given = {'--coordinator': coordinator, '--processes': processes, '--process_id': process_id}
    missing = [flag for flag, value in given.items() if value is None]
    if processes == 0 and process_id is None:
        return {'coordinator_address': coordinator}
    if len(missing) == 3:
        launched = any(
            int(environment.get(total, 1)) > 1 and there in environment for total, there in LAUNCHERS.items()
        )
        return {} if launched else None
    if missing:
        raise UserError(
            f'{", ".join(missing)}: expected with {", ".join(set(given) - set(missing))}; give all three, '
            'such as --coordinator=10.0.0.1:1234 --processes=2 --process_id=0'
        )
    assert coordinator is not None
    assert processes is not None
    assert process_id is not None
    if not 0 <= process_id < processes:
        raise UserError(f'--process_id: expected 0 to {processes - 1}, got {process_id}')
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdigit():
        raise UserError(f'--coordinator: expected HOST:PORT, such as 10.0.0.1:1234, got {coordinator!r}')
    return {'coordinator_address': coordinator, 'num_processes': processes, 'process_id': process_id}


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdigit():
        raise UserError(f'{variable}: expected a number, got {text!r}')
    return int(text)


def start(request: Mapping[str, Any], timeout: int) -> None:
    """Connects to the other processes; if they do not come within `timeout` s, ends this one with a line.

    Later a process that does not answer for as long counts as dead, and JAX's runtime aborts the others
    with a message and a stack trace. (Its client accepts a callback instead, but jaxlib 0.10 cannot turn
    the status that it would pass into a Python object.)
    """
    # The runtime would handle SIGTERM itself; here the loop handles it and tells the other processes.
    jax.config.update('jax_enable_preemption_service', False)
    where = request.get('coordinator_address') or 'the address that the launcher names'
    message = (
        f'error: processes: expected {request.get("num_processes") or "all"} to meet at {where} within '
        f'{timeout} s; look at the output of the others, or give them longer with --process_timeout'
    )
    # JAX would end the process too, but with a stack trace.
    watch = threading.Timer(timeout, _end_now, (message, 2))
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            **request,
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=timeout,
            shutdown_timeout_seconds=timeout,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'processes: JAX cannot start its distributed runtime: {reason}') from error
    finally:
        watch.cancel()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raises a `UserError` for a failed communication between processes."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, TimeoutError) as error:  # the latter from orbax's barriers
        if count() == 1:
            raise
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(
            f'process {index()} of {count()}: another process has ended or does not answer, see its output: '
            f'{reason}; the same command continues from the last checkpoint'
        ) from error


def run_and_leave(command: Callable[[], int]) -> int:
    """Runs a command and leaves JAX's distributed runtime, if it was started; returns the exit code.

    If all processes fail in the same way, all leave it. If one fails alone it does not wait for the others,
    which end when it no longer answers.
    """
    try:
        code = command()
    except BaseException:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        code = 1
    if not jax.distributed.is_initialized():
        return code
    if code:
        watch = threading.Timer(SHUTDOWN_SECONDS, _end_now, ('', code))
        watch.daemon = True
        watch.start()
    jax.distributed.shutdown()
    if code:
        _end_now('', code)
    return code


def _end_now(message: str, code: int) -> None:
    """Ends the process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    if message:
        os.write(2, f'{message}\n'.encode())
    os._exit(code)
