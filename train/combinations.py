"""Options of a run that depend on one another: checked after each alone, by `config.py`."""

import math

from ml_collections import ConfigDict

from flaxnets.errors import UserError


def check(config: ConfigDict) -> None:
    """Raises a `UserError` for options of which each is valid, but not beside the others."""
    if not config.schedule.decay_epochs:
        raise UserError('config.schedule.decay_epochs: expected more than 0, got 0')
    if config.schedule.warmup_epochs >= config.epochs:
        raise UserError(
            f'config.schedule.warmup_epochs: expected less than epochs, {config.epochs}, '
            f'got {config.schedule.warmup_epochs:g}'
        )
    if config.optimizer.nesterov and not config.optimizer.momentum:
        raise UserError('config.optimizer.nesterov: expected a momentum above 0 beside it, got momentum 0')
    for key in ('skip', 'rename', 'optimizer'):
        if config.init_from[key] and not config.init_from.path:
            raise UserError(
                f'config.init_from.{key}: expected init_from.path too, the weights that it is about'
            )
    _check_replicas(config)
    if config.precision == 'float16' and (config.parallel == 'pmap' or config.optimizer.accumulate > 1):
        given = 'parallel=pmap' if config.parallel == 'pmap' else 'optimizer.accumulate above 1'
        raise UserError(
            f'config.precision: expected float32 or bfloat16 beside {given}, got float16 (it scales the loss)'
        )
    unused = {'adam': ('momentum', 'nesterov'), 'adamw': ('momentum', 'nesterov'), 'sgd': ()}
    for key in unused[config.optimizer.name]:
        if config.optimizer[key]:
            raise UserError(f'config.optimizer.{key}: expected sgd beside it, got {config.optimizer.name}')


def _check_replicas(config: ConfigDict) -> None:
    """What replicas cannot be combined with."""
    rates = config.sweep.learning_rate
    if not all(type(rate) in (int, float) and 0 <= rate < math.inf for rate in rates) or len(rates) == 1:
        raise UserError(
            f'config.sweep.learning_rate: expected two or more numbers of at least 0, such as [1e-3,1e-2], '
            f'got {rates}'
        )
    if rates and config.replicas not in (1, len(rates)):
        raise UserError(
            f'config.replicas: expected 1 or {len(rates)}, one for each of sweep.learning_rate, '
            f'got {config.replicas}'
        )
    if not rates and config.replicas == 1:
        return
    key = 'sweep.learning_rate' if rates else 'replicas'
    for given, fits, instead in (
        (config.parallel, config.parallel in ('jit', 'single'), 'parallel=single'),
        (config.devices, config.devices <= 1, 'devices=1'),
        (config.data.placement, config.data.placement != 'stream', 'data.placement=device'),
        (config.init_from.path, not config.init_from.path, 'no init_from.path'),
    ):
        if not fits:
            raise UserError(f'config.{key}: expected {instead} beside it, got {given}')
