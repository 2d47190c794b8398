"""Devices: the only file that knows how many there are.

`jit` computes over a one-dimensional mesh of all devices: the state and the decoded set are
replicated, each batch is split along its images, and XLA inserts the sums. One device is a mesh of one.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train import step
from train.data import pipeline
from train.data.pipeline import Resident
from train.state import TrainState, Values

AXIS = 'data'


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run and how values lie on them."""

    mesh: Mesh

    @classmethod
    def create(cls, parallel: str) -> 'Devices':
        """All devices for `jit`, the first one for `single`."""
        devices = jax.devices()[:1] if parallel == 'single' else jax.devices()
        return cls(jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices))

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.size

    def describe(self) -> str:
        """Such as '1 x cpu' or '8 x NVIDIA H200'."""
        return f'{self.count} x {self.mesh.devices.flat[0].device_kind}'

    def replicate(self, tree: Any) -> Any:
        """`tree` whole on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def split(self, rows: np.ndarray, axis: int = 0) -> jax.Array:
        """`rows` with `axis`, the images of a batch, divided among the devices."""
        spec = PartitionSpec(*[None] * axis, AXIS)
        return jax.device_put(rows, NamedSharding(self.mesh, spec))


class Runner:
    """The compiled functions of a task: `train` some steps, `evaluate` a set."""

    def __init__(self, task: step.Task, devices: Devices, chunk: int):
        self.devices = devices
        self.chunk = chunk
        # XLA on CPU runs backward convolutions 15 to 40 times slower inside a loop, while calling a step
        # costs little there; on an accelerator the call is what costs.
        self.scans = devices.mesh.devices.flat[0].platform != 'cpu'
        replicated = NamedSharding(devices.mesh, PartitionSpec())
        compiled = functools.partial(jax.jit, out_shardings=replicated)

        @functools.partial(compiled, donate_argnums=0)
        def train_step(state, data, row):
            return step.train_step(task, state, pipeline.take(data, row))

        @functools.partial(compiled, donate_argnums=0)
        def train_chunk(state, data, rows, count):
            return step.train_chunk(task, state, functools.partial(pipeline.take, data), rows, count)

        @compiled
        def eval_step(params, stats, data, row, index):
            return step.eval_step(task, params, stats, pipeline.take(data, row), index)

        self._train_step, self._train_chunk, self._eval_step = train_step, train_chunk, eval_step

    def train(
        self, state: TrainState, data: Resident, rows: np.ndarray
    ) -> tuple[TrainState, list[dict[str, jax.Array]]]:
        """The state after a step on each of `rows` (at most `chunk`), and the metrics, unread."""
        if not self.scans:
            metrics = []
            for row in rows:
                state, one = self._train_step(state, data, self.devices.split(row))
                metrics.append(one)
            return state, metrics
        padded = np.full((self.chunk, rows.shape[1]), -1, np.int32)
        padded[: len(rows)] = rows
        state, stacked = self._train_chunk(state, data, self.devices.split(padded, axis=1), len(rows))
        return state, [jax.tree.map(lambda x: x[: len(rows)], stacked)]

    def evaluate(
        self, params: Values, stats: Values, data: Resident, rows: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """(loss added over all images, confusion matrix) of a set, its batches in order."""
        parts = [
            self._eval_step(params, stats, data, self.devices.split(row), jnp.asarray(i, jnp.int32))
            for i, row in enumerate(rows)
        ]
        parts = jax.device_get(parts)
        loss = float(np.sum([part['loss'] for part in parts], dtype=np.float64))
        return loss, np.stack([part['confusion'] for part in parts]).sum(axis=0, dtype=np.int64)


def read(metrics: list[dict[str, jax.Array]]) -> dict[str, np.ndarray]:
    """The metrics of some steps, as arrays with one value a step."""
    fetched = jax.device_get(metrics)
    return {key: np.concatenate([np.atleast_1d(one[key]) for one in fetched]) for key in fetched[0]}
