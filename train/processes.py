"""Several processes that compute as one: JAX's own distributed runtime, started and ended with care.

Every process runs the same program on the same config, sees the devices of all, and takes the same steps;
the first one writes what is written once. What only one of them knows (a signal, how late it is) they
must tell each other before they act on it, or they wait for each other for ever.
"""

import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flaxnets.errors import UserError

# What mpirun and srun tell each task they start, by the name of its total.
LAUNCHERS = {'SLURM_NTASKS': 'SLURM_STEP_NODELIST', 'OMPI_COMM_WORLD_SIZE': 'OMPI_COMM_WORLD_RANK'}
# How long a process that has failed stays to let the others read why.
FAREWELL = 3.0


def count() -> int:
    """How many processes there are."""
    return jax.process_count()


def index() -> int:
    """This one's number."""
    return jax.process_index()


def first() -> bool:
    """Whether this one writes what is written once."""
    return index() == 0


def of_first(value: float) -> float:
    """The first process's value, in all of them."""
    return value if count() == 1 else float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def any_of(value: bool) -> bool:
    """Whether it is true in any process."""
    return value if count() == 1 else bool(multihost_utils.process_allgather(np.bool_(value)).any())


def agree(**facts: Any) -> None:
    """Raises a `UserError` in all processes where one of them has other `facts` than the first."""
    if count() == 1:
        return
    text = json.dumps(facts, default=str).encode()
    length = int(multihost_utils.process_allgather(np.int32(len(text))).max())
    padded = np.frombuffer(text.ljust(length), np.uint8)
    everyones = [json.loads(bytes(row)) for row in multihost_utils.process_allgather(padded)]
    for other, theirs in enumerate(everyones):
        for key in everyones[0] | theirs:
            here, there = everyones[0].get(key), theirs.get(key)
            if here != there:
                raise UserError(
                    f'processes disagree about {key}: {here!r} in process 0, {there!r} in process {other}; '
                    'start all of them with the same command, on the same files'
                )


def requested(coordinator: str | None, processes: int | None, process_id: int | None) -> dict[str, Any] | None:
    """What to start JAX's distributed runtime with; None for a program of one process.

    Flags come first, then JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, then what SLURM
    and Open MPI tell their tasks, which JAX itself reads. `processes` of 0 asks JAX to find out by
    itself, as it can on TPU pods and in Kubernetes.

    Raises:
        UserError: some of the three are missing, or do not fit.
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
            f'{", ".join(missing)}: expected beside {", ".join(set(given) - set(missing))}; give all three, '
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


@contextlib.contextmanager
def together(request: Mapping[str, Any] | None, *, timeout: int) -> Iterator[None]:
    """Runs its body as one of several processes, or alone where `request` is None.

    Whatever ends one process ends the others: at once where a sum over processes notices, else within
    `timeout` seconds, after which a silent process counts as dead. All then exit with an error.
    """
    if request is None:
        yield
        return
    start(request, timeout)
    try:
        yield
    except UserError as error:
        end(f'error: {" ".join(str(error).split())}', 2)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        end(
            f'error: process {index()} of {count()} stopped, most likely because another one did: {reason} '
            'Look at the output of the others; the same command continues from the last checkpoint',
            3,
        )
    except SystemExit:
        raise
    except BaseException:
        end(traceback.format_exc(), 1)
    jax.distributed.shutdown()


def start(request: Mapping[str, Any], timeout: int) -> None:
    """Meets the other processes; ends this one with a line where they do not come in time."""
    # The runtime would take SIGTERM for itself, which this program handles.
    jax.config.update('jax_enable_preemption_service', False)
    where = request.get('coordinator_address') or 'the address that the launcher names'
    watch = threading.Timer(
        timeout,
        end_now,
        (
            f'error: not all processes met at {where} within {timeout} s: expected '
            f'{request.get("num_processes") or "all"} of them; look at the output of the others, check the '
            'address, or give them longer with --process_timeout',
            2,
        ),
    )
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            **request,
            # Longer than the watch, whose message is one line; JAX's own ends the process with a stack.
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=timeout,
            shutdown_timeout_seconds=timeout,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'processes: JAX could not start its distributed runtime: {reason}') from error
    finally:
        watch.cancel()


def end(message: str, code: int) -> None:
    """Says why and ends the process, the others with it."""
    print(message, file=sys.stderr, flush=True)
    # Where all processes fail alike they part in order; where one fails alone it does not wait for long.
    watch = threading.Timer(FAREWELL, os._exit, (code,))
    watch.daemon = True
    watch.start()
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
    os._exit(code)


def end_now(message: str, code: int) -> None:
    """As `end`, from another thread, while this process is inside JAX."""
    os.write(2, f'{message}\n'.encode())
    os._exit(code)
