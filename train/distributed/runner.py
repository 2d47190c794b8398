"""The compiled functions of a task on its devices: training steps, one by one or a chunk, and evaluation."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from flaxnets.layers.onednn import CONVOLUTION
from train import step
from train.data import pipeline
from train.data.pipeline import Batch, Feed, Resident
from train.distributed.convolutions import compiler
from train.distributed.devices import WHOLE, Devices
from train.state import TrainState, Values

# As a traced program names them.
CONVOLUTIONS = ('conv_general_dilated', CONVOLUTION)


class Runner:
    """The compiled functions of a task: `train` some steps of a feed, `evaluate` or `predict` all of one.

    `chunk` is the most steps that one call of `train` is asked for. `layout` says how the state lies on
    the devices (`Devices.layout`), `onednn` whose convolutions it uses (`convolutions.by_onednn`).
    """

    def __init__(
        self, task: step.Task, devices: Devices, chunk: int, layout: Any = None, *, onednn: bool = False
    ):
        self.task = task
        self.devices = devices
        self.chunk = chunk
        # Whether a chunk of steps is one loop on the device; None: `_is_scanned` decides.
        self.scans: bool | None = None
        # On CPU the devices share threads; several steps at once, which wait for one another, can use all.
        self.waits = devices.platform == 'cpu' and devices.count > 1
        whole = NamedSharding(devices.mesh, WHOLE)
        outputs = (whole if layout is None else layout, whole)

        def train_step(state, data, part):
            return step.train_step(task, state, pipeline.take(data, part))

        def train_chunk(state, data, rows, count):
            return step.train_chunk(task, state, functools.partial(pipeline.take, data), rows, count)

        def eval_step(params, stats, data, part, index):
            return step.eval_step(task, params, stats, pipeline.take(data, part), index)

        def predict_step(params, stats, data, part, index):
            return step.predict_step(task, params, stats, pipeline.take(data, part), index)

        compile = compiler(devices.compile, onednn)
        self._train_step = compile(train_step, batch=2, outputs=outputs, donate=(0,))
        self._train_chunk = compile(train_chunk, batch=2, axis=1, outputs=outputs, donate=(0,))
        self._eval_step = compile(eval_step, batch=3)
        self._predict_step = compile(predict_step, batch=3)

    def train(
        self, state: TrainState, feed: Feed, count: int
    ) -> tuple[TrainState, list[dict[str, jax.Array]]]:
        """The state after a step on each of the feed's next `count` batches, at most `chunk`, and the steps'
        metrics, not yet read."""
        parts: Iterable[Any] = itertools.islice(feed.parts, count)
        if feed.resident is not None:
            parts = rows = np.stack(list(parts))
            if self._is_scanned(state, feed.resident, rows[0]):
                state, stacked = self._train_chunk(state, feed.resident, self._padded(rows), len(rows))
                return state, [jax.tree.map(lambda x: x[: len(rows)], stacked)]
        metrics = []
        for part in parts:
            state, one = self._train_step(state, feed.resident, self._placed(part))
            metrics.append(one)
            self._wait(one)
        return state, metrics

    def lower(self, state: TrainState, feed: Feed) -> Any:
        """What `train` calls for the feed's next batches, to be compiled: `lower(...).compile()`."""
        part = next(feed.parts)
        if feed.resident is not None and self._is_scanned(state, feed.resident, part):
            return self._train_chunk.lower(state, feed.resident, self._padded(np.stack([part])), 1)
        return self._train_step.lower(state, feed.resident, self._placed(part))

    def evaluate(self, params: Values, stats: Values, feed: Feed) -> tuple[float, np.ndarray, int | None]:
        """(loss added over all images, confusion matrix, top-5 count) of all the feed's batches.

        The last is None for 10 classes or fewer.
        """
        results = []
        for i, part in enumerate(feed.parts):
            one = self._eval_step(params, stats, feed.resident, self._placed(part), np.int32(i))
            results.append(one)
            self._wait(one)
        return added(jax.device_get(results))

    def predict(self, params: Values, stats: Values, feed: Feed) -> np.ndarray:
        """Probabilities [rows, classes] of all the feed's batches, concatenated, with their padding."""
        results = []
        for i, part in enumerate(feed.parts):
            one = self._predict_step(params, stats, feed.resident, self._placed(part), np.int32(i))
            results.append(one)
            self._wait(one)
        return np.concatenate(jax.device_get(results))

    def _is_scanned(self, state: TrainState, resident: Resident, row: np.ndarray | Batch) -> bool:
        """Whether a chunk of steps is one loop on the device.

        On an accelerator it is. XLA on CPU takes 8 to 30 times as long for a convolution inside a loop
        (docs/speed.md), and devices that share threads wait for one another there.
        """
        if self.scans is None:
            if self.devices.platform != 'cpu' or self.devices.count > 1:
                self.scans = self.devices.platform != 'cpu'
            else:  # what is traced here is what is called afterwards
                traced = self._train_step.trace(state, resident, self._placed(row))
                program = str(traced.jaxpr)
                self.scans = not any(name in program for name in CONVOLUTIONS)
        return self.scans

    def _padded(self, rows: np.ndarray) -> jax.Array:
        """The image numbers of some steps on the devices, as many rows as a chunk has steps."""
        padded = np.full((self.chunk, rows.shape[1]), -1, np.int32)
        padded[: len(rows)] = rows
        return self.devices.split(padded, axis=1)

    def _placed(self, part: np.ndarray | Batch) -> Any:
        """Image numbers go to the devices here; a streamed batch is there already."""
        return part if isinstance(part, Batch) else self.devices.split(part)

    def _wait(self, results: Any) -> None:
        if self.waits:
            jax.block_until_ready(results)


def added(results: list[dict[str, Any]]) -> tuple[float, np.ndarray, int | None]:
    """The results of an evaluation's batches as `Runner.evaluate` returns them."""
    loss = float(np.sum([one['loss'] for one in results], dtype=np.float64))
    confusion = np.stack([one['confusion'] for one in results]).sum(axis=0, dtype=np.int64)
    return loss, confusion, sum(int(one['top5']) for one in results) if 'top5' in results[0] else None


def read(metrics: list[dict[str, jax.Array]]) -> dict[str, np.ndarray]:
    """The metrics of some steps, as arrays with one value per step."""
    fetched = jax.device_get(metrics)
    return {key: np.concatenate([np.atleast_1d(one[key]) for one in fetched]) for key in fetched[0]}
