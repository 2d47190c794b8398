"""Several states of one task on one device, with different seeds or learning rates.

A state's values have a first axis, one entry per replica. On an accelerator a step is one program for all of
them, under `vmap`. On CPU the replicas take turns, a chunk of steps each, with the program of a single run:
there `vmap` turns convolutions into grouped ones, which take longer than separate convolutions.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from train import step
from train.data import pipeline
from train.data.pipeline import Feed
from train.distributed.convolutions import compiler
from train.distributed.devices import Devices
from train.distributed.runner import added
from train.state import TrainState, Values


class ReplicaRunner:
    """As `Runner`, for `count` states. Of a feed, each part has a row of image numbers for each replica.

    Args:
        rates: each replica's peak learning rate, for which `optimizer` makes the rule; None where all have
            the task's own.
        onednn: on CPU, as for `Runner`.
    """

    def __init__(
        self,
        task: step.Task,
        devices: Devices,
        chunk: int,
        *,
        count: int,
        rates: Array | None = None,
        optimizer: Callable[[Array], optax.GradientTransformation] | None = None,
        onednn: bool = False,
    ):
        self.task, self.devices, self.chunk, self.count, self.rates = task, devices, chunk, count, rates
        self.vmaps = self.scans = devices.platform != 'cpu'

        def task_at(rate):
            return task if optimizer is None else dataclasses.replace(task, optimizer=optimizer(rate))

        def train_step(state, rate, data, row):
            return step.train_step(task_at(rate), state, pipeline.take(data, row))

        def train_chunk(state, rate, data, rows, count):
            take = functools.partial(pipeline.take, data)
            return step.train_chunk(task_at(rate), state, take, rows, count)

        def eval_step(params, stats, data, row, index):
            return step.eval_step(task, params, stats, pipeline.take(data, row), index)

        def predict_step(params, stats, data, row, index):
            return step.predict_step(task, params, stats, pipeline.take(data, row), index)

        at = None if rates is None else 0
        together = functools.partial(jax.jit, donate_argnums=0)
        alone = compiler(jax.jit, onednn)
        self._alone = alone(train_step, donate_argnums=0)
        self._step: Any = together(jax.vmap(train_step, (0, at, None, 0)))
        self._chunk: Any = together(jax.vmap(train_chunk, (0, at, None, 1, None), (0, 1)))
        self._eval_alone = alone(eval_step)
        self._eval = jax.jit(jax.vmap(eval_step, (0, 0, None, None, None)))
        self._predict = alone(predict_step)

    def train(self, state: TrainState, feed: Feed, count: int) -> tuple[TrainState, list[dict[str, Any]]]:
        """The states after `count` steps each, and the steps' metrics, [steps, replicas] when read."""
        rows = np.stack(list(itertools.islice(feed.parts, count)))
        if self.scans:
            state, values = self._chunk(state, self.rates, feed.resident, self._padded(rows), len(rows))
            return state, [jax.tree.map(lambda x: x[: len(rows)], values)]
        if self.vmaps:
            metrics = []
            for row in rows:
                state, one = self._step(state, self.rates, feed.resident, row)
                metrics.append(jax.tree.map(lambda x: x[None], one))
            return state, metrics
        states: list[TrainState] = []
        each: list[list[dict[str, Array]]] = []
        for i in range(self.count):
            one, rate = replica(state, i), None if self.rates is None else self.rates[i]
            each.append([])
            for row in rows:
                one, values = self._alone(one, rate, feed.resident, row[i])
                each[-1].append(values)
            states.append(one)
        turned = [
            {key: [[m[key] for m in of_step]] for key in of_step[0]} for of_step in zip(*each, strict=True)
        ]
        return stacked(states), turned

    def evaluate(
        self, params: Values, stats: Values, feed: Feed
    ) -> list[tuple[float, np.ndarray, int | None]]:
        """For each replica what `Runner.evaluate` returns."""
        results = []
        for i, row in enumerate(feed.parts):
            if self.vmaps:
                results.append(self._eval(params, stats, feed.resident, row, np.int32(i)))
            else:
                each = [
                    self._eval_alone(*replica((params, stats), n), feed.resident, row, np.int32(i))
                    for n in range(self.count)
                ]
                results.append({key: [one[key] for one in each] for key in each[0]})
        fetched: Any = jax.device_get(results)
        return [
            added([{key: value[n] for key, value in one.items()} for one in fetched])
            for n in range(self.count)
        ]

    def predict(self, params: Values, stats: Values, feed: Feed) -> np.ndarray:
        """Probabilities [rows, classes] by the first replica, as `Runner.predict` gives them."""
        first = replica((params, stats), 0)
        results = [self._predict(*first, feed.resident, row, np.int32(i)) for i, row in enumerate(feed.parts)]
        return np.concatenate(jax.device_get(results))

    def lower(self, state: TrainState, feed: Feed) -> Any:
        """What `train` calls for the feed's next batches, to be compiled: `lower(...).compile()`."""
        row: Any = next(feed.parts)
        if self.scans:
            return self._chunk.lower(state, self.rates, feed.resident, self._padded(row[None]), 1)
        if self.vmaps:
            return self._step.lower(state, self.rates, feed.resident, row)
        rate = None if self.rates is None else self.rates[0]
        return self._alone.lower(replica(state, 0), rate, feed.resident, row[0])

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        padded = np.full((self.chunk, *rows.shape[1:]), -1, np.int32)
        padded[: len(rows)] = rows
        return padded


@jax.jit
def replica(tree: Any, index: int) -> Any:
    """One replica's part of a tree of stacked values."""
    return jax.tree.map(lambda x: x[index], tree)


def stacked(states: list[Any]) -> Any:
    """One tree of several, with a first axis."""
    return _stacked(tuple(states))


@jax.jit
def _stacked(states: tuple[Any, ...]) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *states)
