"""What a run prints before it starts."""

import os
import pathlib
from typing import Any

import jax

import flaxnets
from flaxnets.errors import UserError
from train import config as options
from train.experiment import Experiment


def facts(exp: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
    """The lines of the header, by their names: what is about to happen, where, and on what."""
    config, images = exp.config, exp.sets['train']
    ours = flaxnets.count_parameters(exp.model)
    published = flaxnets.count_parameters(exp.model, published=True)
    sizes = ', '.join(f'{len(of_split):,} {split}' for split, of_split in exp.sets.items())
    shape = 'x'.join(map(str, images.image_shape))
    lines = {
        'device': exp.devices.describe(),
        'model': config.model.name
        + ''.join(f' {key}={value}' for key, value in options.model_options(config).items()),
        'parameters': f'{ours:,}' + (f' ({published:,} published)' if published != ours else ''),
        'data': f'{images.name}: {sizes} images, {shape}, {len(images.class_names)} classes',
        'placement': exp.placement,
        'training': f'{config.epochs} epochs of {exp.spe} steps, batch {config.data.batch_size}, '
        f'{config.optimizer.name} {config.optimizer.learning_rate:g}, {config.schedule.name} schedule',
    }
    if config.optimizer.accumulate > 1:
        lines['accumulate'] = accumulation(exp)
    lines['workdir'] = workdir
    if config.deterministic:
        lines['deterministic'] = determinism(config)
    return lines


def accumulation(exp: Experiment) -> str:
    """What an update and batch normalisation see."""
    batches = exp.config.optimizer.accumulate
    images = batches * exp.config.data.batch_size
    each = '; batch normalisation normalises each batch by itself' if exp.initial.stats else ''
    return f'an update for {batches} batches, {images} images{each}'


def determinism(config: options.ConfigDict) -> str:
    """What `deterministic` does here; a `UserError` if it comes too late to do it."""
    platform = jax.default_backend()
    if platform != 'gpu':
        return f'no effect on {platform}, whose operations always are'
    if options.DETERMINISTIC_FLAG not in os.environ.get('XLA_FLAGS', ''):
        raise UserError(
            'config.deterministic: expected XLA_FLAGS to ask for it before JAX starts; start with '
            f'`python -m train`, which does, or set XLA_FLAGS={options.DETERMINISTIC_FLAG}=true'
        )
    return 'XLA runs its deterministic operations'
