"""From a config to data, model, optimiser and compiled steps. Shared by training and evaluation."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flaxnets.errors import UserError
from train import config as options
from train import data, metrics, optim, state, step
from train.build import arguments, builder, frozen_parameters
from train.config import ConfigDict
from train.data import augment, pipeline, statistics, stream
from train.data.cache import cache_folder
from train.data.pipeline import Batch, OnDevice
from train.data.stream import Stream
from train.distributed.convolutions import by_onednn
from train.distributed.devices import Devices
from train.distributed.replicas import ReplicaRunner, replica, stacked
from train.distributed.runner import Runner
from train.progress import Track, untracked
from train.runtime import compilations


@contextlib.contextmanager
def precision(config: ConfigDict) -> Iterator[None]:
    """Enables float64 in JAX if the config uses it."""
    if config.precision == 'float64':
        with jax.enable_x64(True):
            yield
    else:
        yield


@dataclasses.dataclass
class Experiment:
    """The objects of a config: `sets` are the images by split, `images` the same on the devices or streamed
    to them, `placement` says in words which. An epoch has `spe` steps. `track` shows the progress of an
    evaluation. `init_digest` is that of the weights of `init_from` that the run began with."""

    config: ConfigDict
    model: nnx.Module
    devices: Devices
    runner: Runner | ReplicaRunner
    initial: state.TrainState
    sets: dict[str, data.ImageSet]
    images: dict[str, pipeline.Images]
    placement: str
    spe: int
    track: Track = untracked
    init_digest: str = ''

    @classmethod
    def create(cls, config: ConfigDict, splits: dict[str, data.ImageSet]) -> 'Experiment':
        """Builds everything for these decoded splits; its `config` has numbers for `data.mean=auto`."""
        compilations.keep(cache_folder(config.data.cache_dir) / 'xla')
        config = statistics.resolved(config, splits)
        first = next(iter(splits.values()))
        devices = Devices.create(config.parallel, config.devices)
        devices.check(config.data.batch_size)
        count = options.replicas(config)
        if count > 1 and devices.count > 1:
            raise UserError(
                f'config.replicas: expected one device, where {count} replicas train at once, got '
                f'{devices.count}; add --config.parallel=single'
            )
        configs = [options.replica(config, i) for i in range(count)]
        build = builder(config, first)
        models = [build(each.seed) for each in configs]
        model = models[0]
        structure = state.split(model)[0]
        spe = pipeline.steps_per_epoch(len(first), config.data.batch_size)
        frozen = frozen_parameters(config, model)
        fixed = state.without_gradient(model) | frozen
        rule = functools.partial(optim.create, config, steps_per_epoch=spe, fixed=fixed)
        optimizer = rule()
        num_classes = arguments(config, first)['num_classes']
        task = step.Task(
            structure=structure,
            optimizer=optimizer,
            prepare=preparation(config, num_classes, first.image_shape[-1], devices.axis_name),
            num_labels=len(first.class_names),
            num_classes=num_classes,
            softmax_twice=config.loss.softmax_twice,
            ema=config.optimizer.ema,
            batch_statistics=config.evaluate_with_batch_statistics,
            axis_name=devices.axis_name,
            divided=devices.divides,
            frozen=frozen,
        )
        states = [
            state.create(*state.split(of)[1:], optimizer, seed=each.seed, ema=bool(config.optimizer.ema))
            for of, each in zip(models, configs, strict=True)
        ]
        initial = states[0] if count == 1 else stacked(states)
        images, placement = place(config, splits, devices)
        return cls(
            config=config,
            model=model,
            devices=devices,
            runner=runner(config, task, devices, rule, devices.layout(initial)),
            initial=devices.place(initial),
            sets=splits,
            images=images,
            placement=placement,
            spe=spe,
        )

    @property
    def eval_split(self) -> str:
        """The split that is evaluated after each epoch: 'validation' if the run has one, else 'test'."""
        return 'validation' if 'validation' in self.sets else 'test'

    def rates(self) -> np.ndarray:
        """The learning rate of every step of the run, of several replicas their mean."""
        configs = [options.replica(self.config, i) for i in range(options.replicas(self.config))]
        return np.mean([optim.rates(each, steps_per_epoch=self.spe) for each in configs], axis=0)

    def check_updates(self) -> None:
        """Raises a `UserError` if an update needs more batches than an epoch has."""
        if self.config.optimizer.accumulate > self.spe:
            raise UserError(
                f'config.optimizer.accumulate: expected at most the {self.spe} batches of an epoch, '
                f'got {self.config.optimizer.accumulate}'
            )

    def evaluate(self, train_state: state.TrainState, split: str, *, ema: bool = False) -> dict[str, Any]:
        """Scores on every image of a split exactly once, in order."""
        params = train_state.ema if ema else train_state.params
        feed = self._feed(self.rows(split), split, 'evaluating')
        results = self.runner.evaluate(params, train_state.stats, feed)
        if isinstance(results, tuple):
            return metrics.scores(*results)
        return metrics.together([metrics.scores(*one) for one in results])

    def predict(self, train_state: state.TrainState, split: str) -> np.ndarray:
        """Probabilities [images, classes] of a split's images in order, those that `evaluate` scores."""
        rows = self.rows(split)
        feed = self._feed(rows, split, 'predicting')
        return self.runner.predict(train_state.params, train_state.stats, feed)[rows.ravel() >= 0]

    def epoch_rows(self, epoch: int) -> np.ndarray:
        """The batches of a training epoch: image numbers [steps, width], -1 for padding; of several
        replicas, each with the order of its seed, [steps, replicas, width]."""
        seeds = [options.replica(self.config, i).seed for i in range(options.replicas(self.config))]
        size, batch_size = len(self.sets['train']), self.config.data.batch_size
        each = [
            pipeline.rows(pipeline.epoch_order(seed, epoch, size), batch_size, self.devices.count)
            for seed in seeds
        ]
        return each[0] if len(each) == 1 else np.stack(each, axis=1)

    def _feed(self, rows: np.ndarray, split: str, doing: str) -> pipeline.Feed:
        """The split's batches; their progress is shown."""
        feed = self.images[split].feed(rows)
        return feed._replace(parts=self.track(feed.parts, f'{doing} {split}', len(rows)))

    def rows(self, split: str) -> np.ndarray:
        """The batches of an evaluation: image numbers in order, -1 for padding."""
        batch_size = self.config.data.eval_batch_size or self.config.data.batch_size
        return pipeline.rows(np.arange(len(self.sets[split])), batch_size, self.devices.count)

    def trained(self, train_state: state.TrainState) -> nnx.Module:
        """The model with the state's values, of several replicas with those of the first, on this process's
        device, in evaluation mode."""
        structure = state.split(self.model)[0]
        values = (train_state.params, train_state.stats)
        if options.replicas(self.config) > 1:
            values = replica(values, 0)
        model = structure.merge(*self.devices.fetch(values))
        model.eval()
        return model


def runner(
    config: ConfigDict,
    task: step.Task,
    devices: Devices,
    rule: Callable[..., optax.GradientTransformation],
    layout: Any,
) -> Runner | ReplicaRunner:
    """The compiled functions, for one state or for several replicas."""
    count, rates = options.replicas(config), config.sweep.learning_rate
    onednn = by_onednn(config, devices)
    if count == 1:
        return Runner(task, devices, chunk=config.log.every, layout=layout, onednn=onednn)
    dtype = jnp.float64 if config.precision == 'float64' else jnp.float32
    return ReplicaRunner(
        task,
        devices,
        config.log.every,
        count=count,
        rates=jnp.asarray(rates, dtype) if rates else None,
        optimizer=(lambda rate: rule(learning_rate=rate)) if rates else None,
        onednn=onednn,
    )


def place(
    config: ConfigDict, splits: dict[str, data.ImageSet], devices: Devices
) -> tuple[dict[str, pipeline.Images], str]:
    """(the splits' images on the devices, or streams of them, and how to say which)."""
    needed = sum(images.nbytes for images in splits.values())
    fits, said = stream.place(config.data.placement, needed, devices.free_memory())

    def placed(images: data.ImageSet) -> pipeline.Images:
        if fits:
            return OnDevice(images, replicate=devices.replicate)
        return Stream(images, workers=config.data.workers, own=devices.own, join=devices.join)

    return {split: placed(images) for split, images in splits.items()}, said


def preparation(
    config: ConfigDict, num_classes: int, channels: int, axis_name: str | None = None
) -> step.Prepare:
    """From stored images to the model's input and the loss's targets, inside the jitted step."""
    mean = config.data.mean or (0.0,) * channels
    std = config.data.std or (1.0,) * channels
    if len(mean) != channels:
        raise UserError(f'config.data.mean: expected {channels} values, one per channel, got {mean}')
    dtype = jnp.float64 if config.precision == 'float64' else jnp.float32

    def prepare(batch: Batch, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        images = batch.image
        targets = jax.nn.one_hot(batch.label, num_classes, dtype=dtype)
        if key is not None:
            targets = optax.smooth_labels(targets, config.loss.label_smoothing)
            images, targets = augment.augment(
                images, targets, batch.mask, key, config.data.augment, mean=mean, axis_name=axis_name
            )
        return augment.normalise(images, mean, std, dtype), targets

    return prepare
