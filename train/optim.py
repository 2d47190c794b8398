"""Optimisers and schedules by name: optax, with PyTorch's meaning of each setting."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array

from train.config import ConfigDict
from train.state import Values


def create(
    config: ConfigDict, *, steps_per_epoch: int, fixed: frozenset[str] = frozenset()
) -> optax.GradientTransformation:
    """The update rule of `config.optimizer` with the learning rate of `config.schedule`.

    `fixed` names parameters that no gradient reaches; PyTorch leaves those alone, weight decay too.
    Weight decay is decoupled for adamw and added to the gradients for adam and sgd, as in torch.optim.
    """
    options = config.optimizer

    def decays(params: Values) -> dict[str, bool]:
        kernels_only = options.decay == 'kernels'
        return {k: k not in fixed and (v.ndim > 1 or not kernels_only) for k, v in params.items()}

    decay = (
        optax.add_decayed_weights(options.weight_decay, decays) if options.weight_decay else optax.identity()
    )
    moments = {
        'adam': (decay, optax.scale_by_adam(options.b1, options.b2, options.eps)),
        'adamw': (optax.scale_by_adam(options.b1, options.b2, options.eps), decay),
        'sgd': (
            decay,
            optax.trace(options.momentum, options.nesterov) if options.momentum else optax.identity(),
        ),
    }
    clip = optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity()
    rate = optax.scale_by_learning_rate(schedule(config, steps_per_epoch=steps_per_epoch))
    return optax.chain(clip, *moments[options.name], rate)


def schedule(config: ConfigDict, *, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of a step: a linear warm-up, then the schedule over the epochs that are left.

    With `schedule.unit=epoch` every step of an epoch has the rate of its first one, as when PyTorch's
    scheduler is stepped once an epoch; with `step` the rate moves at every step. The warm-up always
    moves at every step.
    """
    options, peak = config.schedule, config.optimizer.learning_rate
    warmup = round(options.warmup_epochs * steps_per_epoch)
    steps = max(config.epochs * steps_per_epoch - warmup, 1)
    decay_steps = max(round(options.decay_epochs * steps_per_epoch), 1)
    main = {
        'constant': lambda: optax.constant_schedule(peak),
        'cosine': lambda: optax.cosine_decay_schedule(peak, steps, alpha=options.final),
        'step': lambda: optax.exponential_decay(peak, decay_steps, options.decay_rate, staircase=True),
        'exponential': lambda: optax.exponential_decay(peak, decay_steps, options.decay_rate),
        'one_cycle': lambda: optax.cosine_onecycle_schedule(steps, peak, pct_start=options.peak),
    }[options.name]()

    def rate(count: ArrayLike) -> Array:
        whole = jnp.asarray(count)
        if options.unit == 'epoch':
            whole = whole // steps_per_epoch * steps_per_epoch
        # In the widest float: optax would divide the int32 count in float32, whatever the precision.
        return main(whole.astype(float))

    if warmup:
        return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), rate], [warmup])
    return rate
