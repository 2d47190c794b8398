"""How fast images arrive: sources, placements and a `cnn` step, compared with a PyTorch DataLoader."""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from train import build, data, experiment, state, step
from train import config as options
from train.benchmarks import preview, sample
from train.benchmarks.timing import alternate, rate
from train.data import locate, pipeline
from train.data.imageset import ImageSet
from train.data.pipeline import Batch, Feed, OnDevice
from train.data.sources.records import Source, in_memory
from train.data.stream import Stream
from train.distributed.devices import Devices
from train.distributed.runner import Runner

PADDING = 4
CACHE = 'decoded cache'
STEPS = 10  # of each kind in a round
MEAN, STD = 0.5, 0.25


def config_of(args: argparse.Namespace) -> options.ConfigDict:
    """A `cnn` on the set that the arguments name, cropped and flipped, at most `images` of it."""
    config = options.defaults()
    config.model.name = 'cnn'
    config.parallel = 'single'
    config.data.update(name=args.name, data_dir=args.data_dir, cache_dir=args.cache_dir)
    config.data.update(download=False, limit=args.images, batch_size=args.batch_size, workers=args.workers)
    config.data.augment.update(crop=PADDING, flip=True)
    return options.validate(config)


def draw(args: argparse.Namespace) -> None:
    """Draws what each augmentation does to the set's first images."""
    images = data.load(config_of(args).data, 'train')
    preview.draw(images, options.defaults().data.augment, pathlib.Path(args.preview))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All results, by section."""
    config = config_of(args)
    images = data.load(config.data, 'train')
    config.data.mean, config.data.std = (MEAN,) * images.image_shape[-1], (STD,) * images.image_shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        places = sample.write(images, pathlib.Path(folder))
        readers = torch_readers(config, images, places)
        sources = measure_sources(config, images, places, readers, args.rounds)
    placements = measure_placements(config, images, readers, args.rounds)
    alone = {'alone': config.data.batch_size / placements['device']}
    return {
        'images': len(images),
        'sources': sources,
        'placements': placements,
        'step': measure_step(config, images, args.rounds) | alone,
        'memory': measure_memory(args),
    }


def measure_sources(
    config: options.ConfigDict,
    images: ImageSet,
    places: dict[str, pathlib.Path],
    readers: dict[str, Callable[[], Any]],
    rounds: int,
) -> dict[str, dict[str, float]]:
    """{format: images/s of decoding it, which happens once, and of an epoch of torch's loader on it}."""
    results = {}
    for form, place in places.items():
        chosen = {'source': sample.SOURCES[form], 'data_dir': str(place)}
        source = locate.find(types.SimpleNamespace(**config.data.to_dict() | chosen))
        functions: dict[str, Callable[[], Any]] = {'decode': functools.partial(decode, source)}
        if form in readers:
            functions['torch'] = readers[form]
        seconds = alternate(functions, rounds)
        results[form] = {name: rate(len(images), each) for name, each in seconds.items()}
    cached: dict[str, Callable[[], Any]] = {'decode': lambda: data.load(config.data, 'train')}
    if CACHE in readers:
        cached['torch'] = readers[CACHE]
    whole = {'decode': len(cached['decode']()), 'torch': len(images)}
    return results | {CACHE: {k: rate(whole[k], each) for k, each in alternate(cached, rounds).items()}}


def decode(source: Source) -> ImageSet:
    """All training images of a source."""
    return in_memory(source.read('train'), None, 0, name='benchmark', split='train')


def torch_readers(
    config: options.ConfigDict, images: ImageSet, places: dict[str, pathlib.Path]
) -> dict[str, Callable[[], Any]]:
    """{format: an epoch of torch's loader with the same augmentation}; empty without torch."""
    try:
        from train.torch_reference import loader
    except ImportError:
        return {}
    import tensorflow_datasets as tfds

    sets: dict[str, tuple[Any, Any]] = {CACHE: (images, loader.as_item)}
    for form, place in places.items():
        if form == sample.ARRAY_RECORD:
            builder = tfds.builder_from_directory(next((place / images.name).glob('*.*.*')))
            sets[form] = builder.as_data_source('train'), loader.as_item
        elif form == sample.FOLDER:
            sets[form] = loader.pictures(place / images.name / 'train'), loader.from_file
        elif form == sample.TORCHVISION:
            sets[form] = loader.Pickles(place), loader.as_item
    readers: dict[str, Callable[[], Any]] = {}
    for form, (items, read) in sets.items():
        dataset = loader.Augmented(items, read, PADDING, config.data.mean, config.data.std)
        batches = loader.loader(dataset, config.data.batch_size, config.data.workers)
        readers[form] = functools.partial(loader.epoch, batches)
    return readers


def measure_placements(
    config: options.ConfigDict, images: ImageSet, readers: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, float]:
    """Images/s of an epoch of augmented, normalised batches: from the device, streamed, and by torch."""
    prepare = experiment.preparation(config, len(images.class_names), images.image_shape[-1])
    devices = Devices.create('single')
    resident = OnDevice(images, replicate=devices.replicate).resident
    rows = pipeline.rows(pipeline.epoch_order(0, 0, len(images)), config.data.batch_size)
    take = jax.jit(lambda resident, row, key: prepare(pipeline.take(resident, row), key))
    ready = jax.jit(prepare)
    key = jax.random.key(0)

    def device() -> None:
        for row in rows:
            jax.block_until_ready(take(resident, row, key))

    def stream() -> None:
        batches = Stream(images, workers=config.data.workers, own=devices.own, join=devices.join)
        for batch in batches.feed(rows).parts:
            jax.block_until_ready(ready(batch, key))

    functions = {'device': device, 'stream': stream}
    if readers:  # images in memory: the fastest that torch's loader can be
        functions['torch'] = readers.get(sample.TORCHVISION, readers[CACHE])
    return {name: rate(len(images), each) for name, each in alternate(functions, rounds).items()}


def measure_step(config: options.ConfigDict, images: ImageSet, rounds: int) -> dict[str, float]:
    """Seconds of a step of the `cnn` on images on the device, and of one on a batch that is ready."""
    devices = Devices.create('single')
    model = build.create_model(config, images)
    structure, params, stats = state.split(model)
    prepare = experiment.preparation(config, len(images.class_names), images.image_shape[-1])

    def given(batch: Batch, key: Any) -> tuple[jax.Array, jax.Array]:
        return batch.image, jax.nn.one_hot(batch.label, len(images.class_names))

    def runner(prepare: step.Prepare) -> Runner:
        classes = len(images.class_names)
        task = step.Task(structure, optax.adam(1e-3), prepare, classes, classes)
        return Runner(task, devices, chunk=1)

    row = pipeline.rows(pipeline.epoch_order(0, 0, len(images)), config.data.batch_size)[:1]
    resident = OnDevice(images, replicate=devices.replicate).resident
    batch = pipeline.take(resident, row[0])
    ready = batch._replace(image=prepare(batch, jax.random.key(0))[0])
    runners = {'whole': runner(prepare), 'ready': runner(given)}
    initial = state.create(params, stats, optax.adam(1e-3), seed=0, ema=False)
    states = {name: jax.tree.map(jnp.copy, devices.place(initial)) for name in runners}

    def steps(name: str) -> None:
        feed = Feed(resident, iter(row)) if name == 'whole' else Feed(None, iter([ready]))
        states[name], metrics = runners[name].train(states[name], feed, 1)
        jax.block_until_ready(metrics)

    seconds = alternate({name: functools.partial(steps, name) for name in runners}, STEPS * rounds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return medians | {'share': 1 - medians['ready'] / medians['whole']}


def measure_memory(args: argparse.Namespace) -> dict[str, dict[str, int]]:
    """What the whole set takes on the device, and the most memory while it is decoded, in a process each."""
    results = {}
    for what in ('resident', 'decode'):
        command = [sys.executable, '-m', 'train.benchmarks.memory', what, args.name, args.data_dir]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[what] = json.loads(done.stdout.splitlines()[-1])
    return results
