"""Devices: the only file that knows how many there are.

All ways to share a batch use one mesh with one axis, `data`, along which the images of each batch are
divided; what they compute is the same:

    jit     the state is replicated, and XLA inserts the sums over the devices
    fsdp    as jit, with parameters and optimiser state divided too: each device keeps its part, and XLA
            gathers what a layer needs when it needs it
    pmap    each device runs the step on its own images, and the step adds sums and counts itself
    single  one device

One device is a mesh of one; several processes are a mesh over the devices of all of them.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxnets.errors import UserError
from train import memory
from train.distributed import processes
from train.state import TrainState

AXIS = 'data'
WHOLE = PartitionSpec()
# Arrays with fewer values are not divided: the memory saved is not worth the communication (16 KiB).
SMALL = 4096


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run and how values are placed on them."""

    mesh: Mesh
    parallel: str = 'jit'

    @classmethod
    def create(cls, parallel: str, count: int = 0) -> 'Devices':
        """The first `count` devices, all of them if 0; one for `single`.

        Raises:
            UserError: there are fewer, or the processes cannot share them in this way.
        """
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        if not 0 <= count <= len(devices):
            raise UserError(
                f'config.devices: expected 1 to {len(devices)}, the devices there are, or 0 for all of '
                f'them, got {count}'
            )
        if processes.count() > 1:
            _check_processes(parallel, count, devices)
        if parallel == 'single':
            if count > 1:
                raise UserError(
                    f'config.devices: expected 0 or 1 with parallel=single, got {count}; use parallel=jit'
                )
            count = 1
        chosen = np.array(devices[: count or len(devices)])
        return cls(Mesh(chosen, (AXIS,), axis_types=(AxisType.Auto,)), parallel)

    @property
    def count(self) -> int:
        """Number of devices, including those of other processes."""
        return self.mesh.size

    @property
    def axis_name(self) -> str | None:
        """The axis that a step must add over itself; None where it sees the whole batch."""
        return AXIS if self.parallel == 'pmap' else None

    @property
    def divides(self) -> bool:
        """Whether a step sees the whole batch and the compiler divides it."""
        return self.count > 1 and self.axis_name is None

    @property
    def platform(self) -> str:
        """'cpu', 'gpu' or 'tpu'."""
        return self.mesh.devices.flat[0].platform

    def describe(self) -> str:
        """Such as '1 x cpu' or '8 x NVIDIA H200, 2 processes'."""
        together = f', {processes.count()} processes' if processes.count() > 1 else ''
        return f'{self.count} x {self.mesh.devices.flat[0].device_kind}{together}'

    def check(self, batch_size: int) -> None:
        """Raises a `UserError` for a batch that cannot be shared: under `pmap` each device needs an image.

        The other ways pad a batch that is too small.
        """
        if self.parallel == 'pmap' and batch_size < self.count:
            raise UserError(
                f'config.data.batch_size: expected at least {self.count}, an image for each device, beside '
                f'parallel=pmap, got {batch_size}; raise it, set config.devices={batch_size} or parallel=jit'
            )

    def free_memory(self) -> int | None:
        """Bytes free on each device, the minimum over processes; None if the device does not report them."""
        local = self.mesh.local_devices
        if self.platform == 'cpu':
            free: int | None = memory.available() // len(local)
        else:
            stats = [s for device in local if 'bytes_limit' in (s := device.memory_stats() or {})]
            free = min((s['bytes_limit'] - s['bytes_in_use'] for s in stats), default=None)
        if processes.count() == 1:
            return free
        # The processes must agree, because they compile what follows from it.
        everyones = multihost_utils.process_allgather(np.float32(-1 if free is None else free))
        return int(least) if (least := everyones.min()) >= 0 else None

    def peak_memory(self) -> int:
        """The most bytes used so far: on a device of this process if it reports them, else by the process."""
        stats = [device.memory_stats() or {} for device in self.mesh.local_devices]
        used = [one['peak_bytes_in_use'] for one in stats if 'peak_bytes_in_use' in one]
        return max(used) if used else memory.peak()

    def replicate(self, tree: Any) -> Any:
        """`tree`, replicated on every device."""
        return jax.tree.map(lambda x: self._put(x, NamedSharding(self.mesh, WHOLE)), tree)

    def fetch(self, tree: Any) -> Any:
        """`tree`, however it is divided, as whole NumPy arrays in every process."""
        if processes.count() > 1:
            tree = jax.jit(lambda x: x, out_shardings=NamedSharding(self.mesh, WHOLE))(tree)
        return jax.device_get(tree)

    def place(self, state: TrainState) -> TrainState:
        """The state as `layout` says."""
        layout = self.layout(state)
        if isinstance(layout, NamedSharding):
            return self.replicate(state)
        return jax.tree.map(self._put, state, layout)

    def layout(self, state: TrainState) -> Any:
        """Where the state's values are: replicated on every device, or for `fsdp` a sharding for each."""
        if self.parallel != 'fsdp':
            return NamedSharding(self.mesh, WHOLE)
        return jax.tree.map(lambda x: NamedSharding(self.mesh, self.divided(x.shape)), state)

    def divided(self, shape: tuple[int, ...]) -> PartitionSpec:
        """Divides the longest axis that the devices divide evenly; small arrays stay whole."""
        axes = [axis for axis, length in enumerate(shape) if length % self.count == 0]
        if not axes or np.prod(shape) < SMALL:
            return WHOLE
        longest = max(axes, key=lambda axis: shape[axis])
        return PartitionSpec(*[None] * longest, AXIS)

    def split(self, rows: np.ndarray, axis: int = 0) -> jax.Array:
        """`rows`, which every process has, with `axis`, the images of a batch, divided among the devices.

        Under `pmap` that axis becomes two, [devices, images of each].
        """
        sharding = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))
        return self._put(self._stacked(rows, self.count, axis), sharding)

    def own(self, width: int) -> slice:
        """Which of a batch's `width` images this process loads: those of its own devices."""
        owners = [device.process_index for device in self.mesh.devices.flat]
        mine = np.flatnonzero(np.equal(owners, processes.index()))
        each = width // self.count
        return slice(int(mine[0]) * each, (int(mine[-1]) + 1) * each)

    def join(self, rows: np.ndarray) -> jax.Array:
        """A batch's array; each process gives the images that are its `own`."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        stacked = self._stacked(rows, len(self.mesh.local_devices), 0)
        return jax.make_array_from_process_local_data(sharding, stacked)

    def compile(
        self,
        function: Callable[..., Any],
        *,
        batch: int,
        axis: int = 0,
        outputs: Any = None,
        donate: tuple[int, ...] = (),
    ) -> Callable[..., Any]:
        """`function`, compiled for the devices.

        Its argument number `batch`, from 0, is divided among them along `axis`. `outputs` are the
        layouts of its results, None for replicated. The memory of the arguments `donate` is reused.
        """
        if self.parallel != 'pmap':
            outputs = NamedSharding(self.mesh, WHOLE) if outputs is None else outputs
            return jax.jit(function, out_shardings=outputs, donate_argnums=donate)
        mapped = jax.pmap(
            function,
            AXIS,
            in_axes=tuple(
                axis if i == batch else None for i in range(len(inspect.signature(function).parameters))
            ),
            out_axes=None,
            devices=tuple(self.mesh.devices.flat),
            donate_argnums=donate,
        )
        if processes.count() == 1:
            return mapped
        # pmap returns this process's part of the arrays; all other functions return global arrays.
        return lambda *args: multihost_utils.host_local_array_to_global_array(mapped(*args), self.mesh, WHOLE)

    def _stacked(self, rows: np.ndarray, devices: int, axis: int) -> np.ndarray:
        if self.parallel != 'pmap':
            return rows
        return rows.reshape(*rows.shape[:axis], devices, -1, *rows.shape[axis + 1 :])

    def _put(self, x: Any, sharding: NamedSharding) -> jax.Array:
        if processes.count() == 1:
            return jax.device_put(x, sharding)
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _check_processes(parallel: str, count: int, devices: list[jax.Device]) -> None:
    """Raises a `UserError` for what several processes cannot do together."""
    each = [sum(d.process_index == p for d in devices) for p in range(processes.count())]
    if parallel == 'single':
        raise UserError(
            f'config.parallel: expected jit, pmap or fsdp for {len(each)} processes, got single; start one '
            'process or change it'
        )
    if count not in (0, len(devices)):
        raise UserError(
            f'config.devices: expected 0 or {len(devices)}, all the devices of {len(each)} processes, got '
            f'{count}; to use fewer, start fewer processes'
        )
    if len(set(each)) > 1:
        raise UserError(f'processes: expected as many devices in each, got {", ".join(map(str, each))}')
