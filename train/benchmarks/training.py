"""How fast a config trains and evaluates, compared with PyTorch, with the share of the device's peak.

Everything is timed in one process, in turns, through the runner that the training loop uses; what is
reported are medians and quartiles over rounds, and of ratios those of the rounds.
"""

import copy
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import flaxnets
from flaxnets.layers import nearest, selection
from train import config as options
from train import experiment, optim, step
from train.benchmarks import arithmetic, synthetic
from train.benchmarks.timing import alternate, cores
from train.data import pipeline
from train.data.pipeline import Feed
from train.distributed.replicas import replica
from train.experiment import Experiment

OURS, PEAK = 'flaxnets', 'matrix product'
EAGER, PUBLISHED, COMPILED = 'PyTorch', 'PyTorch, as published', 'torch.compile'
MANY = 8
REPLICAS, TOP_K = f'{MANY} replicas', 'neighbours by lax.top_k'
# A loop on the device where the runner calls step by step, and the other way round.
OTHER_LOOP = 'scan and loop exchanged'
VARIANTS = [OTHER_LOOP, TOP_K, REPLICAS]
# Side of the matrices whose product gives the peak, by platform.
SIDES = {'cpu': 2048}
LARGE = 8192
MOST_STEPS = 200  # in a round


class Ours:
    """A config's runner on synthetic images, compiled and past its first step."""

    def __init__(self, config: options.ConfigDict, *, scans: bool | None = None):
        started = time.perf_counter()
        self.config, self.sets = config, synthetic.splits(config)
        self.exp = Experiment.create(config, self.sets)
        if scans is not None:  # other than the runner's own choice
            self.exp.runner.scans = scans
        self.state = self.exp.initial
        self.rows = {'train': self.exp.epoch_rows(0), 'test': self.exp.rows('test')}
        lowered = self.exp.runner.lower(self.state, self._feed('train', 1))
        compiling = time.perf_counter()
        self.compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - compiling
        self.train(1)
        self.first_step_seconds = time.perf_counter() - started

    def train(self, steps: int) -> None:
        """This many updates."""
        done = 0
        while done < steps:
            count = min(self.exp.runner.chunk, steps - done)
            self.state, metrics = self.exp.runner.train(self.state, self._feed('train', count), count)
            done += count
        jax.block_until_ready((self.state, metrics))

    def evaluate(self, steps: int) -> None:
        """The scores of this many batches."""
        self.exp.runner.evaluate(self.state.params, self.state.stats, self._feed('test', steps))

    def dispatch_seconds(self, times: int = 20) -> float:
        """The host's time to start a step, in the median."""
        seconds = []
        for _ in range(times):
            feed = self._feed('train', 1)
            started = time.perf_counter()
            self.state, metrics = self.exp.runner.train(self.state, feed, 1)
            seconds.append(time.perf_counter() - started)
            jax.block_until_ready((self.state, metrics))
        return statistics.median(seconds)

    def around(self) -> dict[str, float]:
        """Seconds of the step's parts before and after the model, each alone, of one replica."""
        task, count = self.exp.runner.task, options.replicas(self.config)
        state = self.state if count == 1 else replica(self.state, 0)
        resident = self.exp.images['train'].feed(self.rows['train']).resident
        rows, key = jnp.asarray(self.rows['train'][0]), jax.random.key(0)
        scaled = {}
        if isinstance(state.opt_state, optim.LossScaled):
            scaled = {'scale': state.opt_state.scale, 'finite': jnp.asarray(True)}
        images = jax.jit(lambda data, row: task.prepare(pipeline.take(data, row), key))
        update = jax.jit(lambda state: step.updated(task, state, state.params, jnp.asarray(1.0), scaled))
        calls: dict[str, Callable[[], Any]] = {
            'taking and changing the images': lambda: jax.block_until_ready(images(resident, rows)),
            'the optimiser': lambda: jax.block_until_ready(update(state)),
        }
        return {name: spread(seconds)['median'] for name, seconds in alternate(calls, 5).items()}

    def facts(self) -> dict[str, Any]:
        """What does not vary from round to round."""
        memory: Any = self.compiled.memory_analysis()
        cost = self.compiled.cost_analysis() or {}
        return {
            'model': self.config.model.name,
            'batch_size': self.config.data.batch_size,
            'precision': self.config.precision,
            'parameters': flaxnets.count_parameters(self.exp.model),
            'compile_seconds': self.compile_seconds,
            'first_step_seconds': self.first_step_seconds,
            'memory': {
                'arguments': memory.argument_size_in_bytes,
                'temporary': memory.temp_size_in_bytes,
                'peak': memory.argument_size_in_bytes
                + memory.output_size_in_bytes
                - memory.alias_size_in_bytes
                + memory.temp_size_in_bytes,
            },
            **self.arithmetic(),
            'xla_flops': cost.get('flops'),
        }

    def arithmetic(self) -> dict[str, int]:
        """Of a step, of all replicas: FLOPs of the matrix products and convolutions, comparisons to choose
        neighbours, and values gathered."""
        count = options.replicas(self.config)
        single = self.state if count == 1 else replica(self.state, 0)
        size = self.config.data.batch_size
        resident = self.exp.images['train'].feed(self.rows['train']).resident
        batch = jax.eval_shape(pipeline.take, resident, jax.ShapeDtypeStruct((size,), 'int32'))
        train_step = functools.partial(step.train_step, self.exp.runner.task)
        counted = arithmetic.arithmetic(train_step, single, batch)
        return {
            'flops': count * 2 * counted.multiply_adds,
            'comparisons': count * counted.comparisons,
            'gathered': count * counted.gathered,
        }

    def _feed(self, split: str, count: int) -> Feed:
        rows = itertools.islice(itertools.cycle(self.rows[split]), count)
        return Feed(self.exp.images[split].feed(self.rows[split]).resident, rows)


def measure(
    configs: dict[str, options.ConfigDict],
    *,
    against: Sequence[str] = (),
    rounds: int = 5,
    seconds: float = 0.5,
    minutes: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """A row of numbers for each config, by its name, none that would begin after `minutes` minutes.

    `against` names what each is compared with. A round of each side takes about `seconds`.
    """
    started = time.monotonic()
    enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update('jax_enable_compilation_cache', False)  # or reading the cache would be timed
    try:
        for name, config in configs.items():
            if time.monotonic() - started > 60 * minutes:
                break
            config.parallel, config.data.placement = 'single', 'device'
            with experiment.precision(config):
                yield {'config': name, **measure_one(config, against, rounds, seconds)}
            jax.clear_caches()
    finally:
        jax.config.update('jax_enable_compilation_cache', enabled)


def measure_one(
    config: options.ConfigDict, against: Sequence[str], rounds: int, seconds: float
) -> dict[str, Any]:
    """The numbers of one config."""
    ours = Ours(config)
    contenders: dict[str, Any] = {OURS: ours}
    failed = {}
    for name in against:
        try:
            contenders[name] = contender(ours, name)
            contenders[name].train(1)
            contenders[name].evaluate(1)
        except NotApplicable:
            continue
        except Exception as error:  # any error of torch.compile, or a model without a twin
            contenders.pop(name, None)
            failed[name] = f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}'
    steps = round_of(contenders, seconds)
    functions: dict[str, Callable[[], Any]] = {}
    before: dict[str, Callable[[], Any]] = {}
    for name, each in contenders.items():
        for what, call in (('train', each.train), ('evaluate', each.evaluate)):
            functions[f'{what} {name}'] = functools.partial(call, steps)
            before[f'{what} {name}'] = functools.partial(call, 1)
    product, product_flops = matrix_product(config.precision, ours.exp.devices.platform)
    functions[PEAK] = product
    taken = alternate(functions, rounds, before)
    peak = product_flops / statistics.median(taken[PEAK])
    facts = ours.facts()
    result: dict[str, Any] = {**facts, 'steps_a_round': steps, 'failed': failed}
    for what in ('train', 'evaluate'):
        each_step = {name: [s / steps for s in taken[f'{what} {name}']] for name in contenders}
        result[what] = {name: spread(values) for name, values in each_step.items()}
        result[f'{what}_ratio'] = {
            name: spread([t / o for t, o in zip(each_step[name], each_step[OURS], strict=True)])
            | {'median': statistics.median(each_step[name]) / statistics.median(each_step[OURS])}
            for name in contenders
            if name != OURS
        }
    step_seconds = median(result, OURS)
    return result | {
        'steps_per_second': 1 / step_seconds,
        'images_per_second': options.replicas(config) * config.data.batch_size / step_seconds,
        'evaluated_per_second': (config.data.eval_batch_size or config.data.batch_size)
        / median(result, OURS, 'evaluate'),
        'dispatch_seconds': ours.dispatch_seconds(),
        'peak_flops': peak,
        'share_of_peak': facts['flops'] / step_seconds / peak,
    }


class NotApplicable(Exception):
    """A comparison that says nothing about a model."""


def contender(ours: Ours, name: str) -> Any:
    """What `name` says, to be compared with `ours`.

    Raises:
        NotApplicable: a way to choose or gather neighbours, and a model without any.
    """
    neighbours = ours.config.model.name.startswith(('convnn', 'branching'))
    if name in (PUBLISHED, TOP_K) and not neighbours:
        raise NotApplicable
    if name == REPLICAS:
        config = copy.deepcopy(ours.config)
        config.replicas = MANY
        return Ours(config)
    if name == OTHER_LOOP:
        return Ours(ours.config, scans=not ours.exp.runner.scans)
    if name == TOP_K:
        with mock.patch.object(nearest, 'most_similar', by_top_k):
            made = Ours(ours.config)
            made.evaluate(1)
        return made
    from train.torch_reference import training

    training.prepare(cores())
    device = 'cpu' if ours.exp.devices.platform == 'cpu' else 'cuda'
    return training.Training(
        ours.config, ours.sets, device=device, published=name == PUBLISHED, compiled=name == COMPILED
    )


def by_top_k(similarity: Any, keys: Any, queries: Any, count: int, *, pool: Any = None) -> jax.Array:
    """`selection.most_similar` by `lax.top_k` everywhere."""
    pool = jnp.full(queries.shape[1], -1) if pool is None else pool
    return selection.by_top_k(similarity, keys, queries, count, pool)


def round_of(contenders: dict[str, Any], seconds: float) -> int:
    """The steps of a round: what the fastest trains in about `seconds`."""
    fastest = min(
        min(alternate({'train': functools.partial(c.train, 1)}, 2)['train']) for c in contenders.values()
    )
    return int(np.clip(seconds / fastest, 1, MOST_STEPS))


def matrix_product(precision: str, platform: str) -> tuple[Callable[[], Any], int]:
    """(a large product of matrices, its FLOPs)."""
    side = SIDES.get(platform, LARGE)
    dtype = jnp.dtype(precision)
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(a, a)), 2 * side**3


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {'median': float(middle), 'low': float(low), 'high': float(high)}


def median(row: dict[str, Any], name: str, what: str = 'train') -> float:
    """A contender's seconds per step, in the median round."""
    return row[what][name]['median']
