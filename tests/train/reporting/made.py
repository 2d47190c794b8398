"""Finished runs as reports see them, made by hand: nothing is trained."""

import json

import numpy as np
from flax import nnx

import flaxnets
from train import config as options
from train import metrics
from train.data.imageset import ImageSet
from train.reporting.results import Results

CLASSES = ('cat & dog', 'frog', 'ship')


def history(epochs=4):
    return [
        {
            'epoch': epoch,
            'step': 10 * epoch,
            'train_loss': 2 / epoch,
            'train_accuracy': 100 - 60 / epoch,
            'test_loss': 2.2 / epoch,
            'test_accuracy': 100 - 70 / epoch,
            'learning_rate': 0.001,
            'seconds': 1.5,
            'images_per_second': 12345.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def make(tmp_path, name='cnn', shape=(8, 8, 3), **model_options):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = random.integers(0, 256, (60, *shape), np.uint8)
    images = ImageSet.of(pixels, labels, CLASSES, name='made', split='test')
    model_options = {'num_classes': 3, 'image_shape': shape} | model_options
    model, initial = (flaxnets.create_model(name, **model_options, rngs=nnx.Rngs(seed)) for seed in (1, 2))
    model.eval()
    initial.eval()
    probabilities = random.dirichlet(np.ones(3), 60)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, probabilities.argmax(1)), 1)
    config = options.defaults()
    config.model.name = name
    config.data.name = 'made'
    summary = metrics.scores(60.0, confusion) | {'parameters': flaxnets.count_parameters(model)}
    return Results(tmp_path, config, summary, history(), images, probabilities, model, initial, 40)


def leave(tmp_path, name, *, seed=0, gain=0.0, epochs=4, finished=True, **model):
    """A workdir as a run leaves it."""
    workdir = tmp_path / name
    workdir.mkdir()
    config = options.defaults()
    config.seed = seed
    config.model.name = 'cnn'
    config.model.update(model)
    (workdir / 'config.json').write_text(json.dumps(config.to_dict()))
    rows = history(epochs)
    for row in rows:
        row['test_accuracy'] += gain + seed
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if finished:
        summary = {'epochs': epochs, 'test_accuracy': rows[-1]['test_accuracy'], 'test_loss': 0.5}
        summary |= {'macro_f1': 50.0, 'parameters': 1000 + seed}
        (workdir / 'summary.json').write_text(json.dumps(summary))
    return workdir
