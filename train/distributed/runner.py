"""The compiled functions of a task on its devices: training steps, one by one or a chunk, and evaluation."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from train import step
from train.data import pipeline
from train.data.pipeline import Batch, Resident
from train.distributed.devices import WHOLE, Devices
from train.state import TrainState, Values


class Runner:
    """The compiled functions of a task: `train` some steps, `evaluate` a set.

    `layout` says how the state lies on the devices (`Devices.layout`).
    """

    def __init__(self, task: step.Task, devices: Devices, chunk: int, layout: Any = None):
        self.devices = devices
        self.chunk = chunk
        # XLA on CPU runs backward convolutions 15 to 40 times slower inside a loop, while calling a step
        # costs little there; on an accelerator the call is what costs.
        self.scans = devices.platform != 'cpu'
        # On CPU the devices share threads; steps in flight whose sums wait for one another can take all.
        self.waits = devices.platform == 'cpu' and devices.count > 1
        whole = NamedSharding(devices.mesh, WHOLE)
        outputs = (whole if layout is None else layout, whole)

        def train_step(state, data, row):
            return step.train_step(task, state, pipeline.take(data, row))

        def train_chunk(state, data, rows, count):
            return step.train_chunk(task, state, functools.partial(pipeline.take, data), rows, count)

        def eval_step(params, stats, data, row, index):
            return step.eval_step(task, params, stats, pipeline.take(data, row), index)

        def train_batch(state, batch):
            return step.train_step(task, state, batch)

        def eval_batch(params, stats, batch, index):
            return step.eval_step(task, params, stats, batch, index)

        self._train_batch = devices.compile(train_batch, batch=1, outputs=outputs, donate=(0,))
        self._eval_batch = devices.compile(eval_batch, batch=2)
        self._train_step = devices.compile(train_step, batch=2, outputs=outputs, donate=(0,))
        self._train_chunk = devices.compile(train_chunk, batch=2, axis=1, outputs=outputs, donate=(0,))
        self._eval_step = devices.compile(eval_step, batch=3)

    def train(
        self, state: TrainState, data: Resident | Iterator[Batch], rows: np.ndarray
    ) -> tuple[TrainState, list[dict[str, jax.Array]]]:
        """The state after a step on each of `rows` (at most `chunk`), and the metrics, unread.

        `data` are the images on the device, or the batches of these rows, which come one by one.
        """
        if not (self.scans and isinstance(data, Resident)):
            metrics = []
            for row in rows:
                if isinstance(data, Resident):
                    state, one = self._train_step(state, data, self.devices.split(row))
                else:
                    state, one = self._train_batch(state, next(data))
                metrics.append(one)
                if self.waits:
                    jax.block_until_ready(one)
            return state, metrics
        padded = np.full((self.chunk, rows.shape[1]), -1, np.int32)
        padded[: len(rows)] = rows
        state, stacked = self._train_chunk(state, data, self.devices.split(padded, axis=1), len(rows))
        return state, [jax.tree.map(lambda x: x[: len(rows)], stacked)]

    def evaluate(
        self, params: Values, stats: Values, data: Resident | Iterator[Batch], rows: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """(loss added over all images, confusion matrix) of a set, its batches in order."""
        parts = []
        for i, row in enumerate(rows):
            if isinstance(data, Resident):
                parts.append(self._eval_step(params, stats, data, self.devices.split(row), np.int32(i)))
            else:
                parts.append(self._eval_batch(params, stats, next(data), np.int32(i)))
            if self.waits:
                jax.block_until_ready(parts[-1])
        parts = jax.device_get(parts)
        loss = float(np.sum([part['loss'] for part in parts], dtype=np.float64))
        return loss, np.stack([part['confusion'] for part in parts]).sum(axis=0, dtype=np.int64)


def read(metrics: list[dict[str, jax.Array]]) -> dict[str, np.ndarray]:
    """The metrics of some steps, as arrays with one value a step."""
    fetched = jax.device_get(metrics)
    return {key: np.concatenate([np.atleast_1d(one[key]) for one in fetched]) for key in fetched[0]}
