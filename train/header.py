"""The lines that a run prints before it starts."""

import os
import pathlib
from typing import Any

import jax

import flaxnets
from flaxnets.errors import UserError
from train import config as options
from train.data import describe
from train.distributed.convolutions import by_onednn
from train.experiment import Experiment

# What JAX multiplies float32 matrices in, unless it is told otherwise.
PRODUCTS = {'gpu': 'TF32', 'tpu': 'bfloat16'}


def facts(exp: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
    """The lines of the header, by their names: device, model, data, training, workdir."""
    config = exp.config
    ours = flaxnets.count_parameters(exp.model)
    published = flaxnets.count_parameters(exp.model, published=True)
    rate = 'a rate for each replica' if config.sweep.learning_rate else f'{config.optimizer.learning_rate:g}'
    lines = {
        'device': exp.devices.describe(),
        'model': config.model.name
        + ''.join(f' {key}={value}' for key, value in options.model_options(config).items()),
        'parameters': f'{ours:,}' + (f' ({published:,} published)' if published != ours else ''),
        **describe.facts(exp.sets),
        'placement': exp.placement,
        'pixels': pixels(config),
        'training': f'{config.epochs} epochs of {exp.spe} steps, batch {config.data.batch_size}, '
        f'{config.optimizer.name} {rate}, {config.schedule.name} schedule',
    }
    lines['precision'] = precision(config)
    if by_onednn(config, exp.devices):
        lines['arithmetic'] = (
            'convolutions and products by oneDNN, compiled anew at each start; '
            '--config.convolution=xla: by XLA'
        )
    if (count := options.replicas(config)) > 1:
        lines['replicas'] = replicas(exp, count)
    if config.optimizer.accumulate > 1:
        lines['accumulate'] = accumulation(exp)
    if exp.eval_split == 'test':
        lines['best epoch'] = (
            'chosen on the test images, so its score is too good; --config.data.validation=0.1 chooses it on '
            'validation images'
        )
    lines['workdir'] = workdir
    if config.deterministic:
        lines['deterministic'] = determinism(config)
    return lines


def _listed(values: tuple[float, ...]) -> str:
    return ', '.join(f'{value:.4g}' for value in values)


def pixels(config: options.ConfigDict) -> str:
    """What the model is given for a pixel."""
    if not config.data.mean:
        return 'in [0, 1]'
    return f'in [0, 1], minus {_listed(config.data.mean)}, divided by {_listed(config.data.std)}'


def precision(config: options.ConfigDict) -> str:
    """What is computed in which precision, matrix products too."""
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    product = config.precision
    if product == 'float32':
        product = chosen or PRODUCTS.get(jax.default_backend(), 'float32')
    elsewhere = '' if config.precision in ('float32', 'float64') else '; all else in float32'
    scaled = ', loss scaled' if config.precision == 'float16' else ''
    return f'{config.precision}, matrix products in {product}{elsewhere}{scaled}'


def replicas(exp: Experiment, count: int) -> str:
    """What differs between the replicas, and how they share the device."""
    config = exp.config
    rates = ', '.join(f'{rate:g}' for rate in config.sweep.learning_rate)
    varies = f'learning rates {rates}' if rates else f'seeds {config.seed} to {config.seed + count - 1}'
    if exp.devices.platform != 'cpu':
        return f'{count} at once, {varies}'
    return f'{count} in turns, {varies}; on cpu that takes as long as {count} single runs'


def accumulation(exp: Experiment) -> str:
    """How many images an update and batch normalisation use."""
    batches = exp.config.optimizer.accumulate
    images = batches * exp.config.data.batch_size
    each = '; batch normalisation normalises each batch by itself' if exp.initial.stats else ''
    return f'an update for {batches} batches, {images} images{each}'


def determinism(config: options.ConfigDict) -> str:
    """The effect of `deterministic` on this platform; a `UserError` if it is set too late."""
    platform = jax.default_backend()
    if platform != 'gpu':
        return f'no effect on {platform}, whose operations always are'
    if options.DETERMINISTIC_FLAG not in os.environ.get('XLA_FLAGS', ''):
        raise UserError(
            'config.deterministic: expected XLA_FLAGS to ask for it before JAX starts; start with '
            f'`python -m train`, which does, or set XLA_FLAGS={options.DETERMINISTIC_FLAG}=true'
        )
    return 'XLA runs its deterministic operations'
