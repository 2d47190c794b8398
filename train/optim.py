"""Optimisers and schedules by name: optax, with PyTorch's meaning of each setting."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.dynamic_scale import DynamicScale
from jax.typing import ArrayLike
from jaxtyping import Array

from train.config import ConfigDict
from train.runtime import compilations
from train.state import Values


def create(
    config: ConfigDict,
    *,
    steps_per_epoch: int,
    fixed: frozenset[str] = frozenset(),
    learning_rate: ArrayLike | None = None,
) -> optax.GradientTransformation:
    """The update rule of `config.optimizer` with the learning rate of `config.schedule`.

    `learning_rate` is the peak in place of the config's; it may be traced. `fixed` names parameters that no
    gradient reaches; as in PyTorch, weight decay does not change them either.
    Weight decay is decoupled for adamw and added to the gradients for adam and sgd, as in torch.optim.
    With `optimizer.accumulate` above 1, `steps_per_epoch` counts batches, and an update needs the gradients
    and the `count` of its batch's images.
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
    updates = updates_per_epoch(config, steps_per_epoch)
    rate = optax.scale_by_learning_rate(schedule(config, steps_per_epoch=updates, peak=learning_rate))
    rule = optax.chain(clip, *moments[options.name], rate)
    if config.precision == 'float16':
        return loss_scaled(rule)
    return rule if options.accumulate == 1 else accumulated(rule, options.accumulate, steps_per_epoch)


class LossScaled(NamedTuple):
    """An optimiser's state and the factor by which the loss is multiplied before it is differentiated."""

    inner: optax.OptState
    scale: DynamicScale


def loss_scaled(rule: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The rule for float16, whose gradients are sometimes too small or too large.

    `update` is given `scale` and `finite`, both from `DynamicScale.value_and_grad`; gradients that are not
    finite change nothing but the scale. Source: P. Micikevicius et al., "Mixed Precision Training", 2018.
    """

    def init(params: Values) -> LossScaled:
        values: Any = {'fin_steps': jnp.zeros((), jnp.int32), 'scale': jnp.asarray(2.0**16, jnp.float32)}
        return LossScaled(rule.init(params), DynamicScale(**values))

    def update(
        gradients: Values,
        state: LossScaled,
        params: Values | None = None,
        *,
        scale: DynamicScale,
        finite: Array,
        **_: Any,
    ) -> tuple[Values, LossScaled]:
        updates, inner = rule.update(gradients, state.inner, params)
        updates = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), updates)
        inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), inner, state.inner)
        return updates, LossScaled(inner, scale)

    return optax.GradientTransformationExtraArgs(init, update)


def updates_per_epoch(config: ConfigDict, steps_per_epoch: int) -> int:
    """An epoch's updates: one for `optimizer.accumulate` batches, the last one perhaps for fewer."""
    return -(-steps_per_epoch // config.optimizer.accumulate)


def rate_of_step(config: ConfigDict, *, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of the update that a step's gradients go into."""
    every, updates = config.optimizer.accumulate, updates_per_epoch(config, steps_per_epoch)
    rate = schedule(config, steps_per_epoch=updates)

    def at(step: int) -> Array:
        epoch, within = divmod(step, steps_per_epoch)
        return rate(epoch * updates + within // every)

    return at


def rates(config: ConfigDict, *, steps_per_epoch: int) -> np.ndarray:
    """The learning rate of every step of the run, computed at once: one by one, in between, the host would
    wait for the steps that the device has been given already."""
    rate_of = jax.vmap(rate_of_step(config, steps_per_epoch=steps_per_epoch))
    with jax.enable_x64(True):
        return np.asarray(compilations.quickly(rate_of)(np.arange(config.epochs * steps_per_epoch)))


def accumulated(
    rule: optax.GradientTransformation, every: int, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """One update for `every` batches, with the mean gradient over all their images.

    An epoch's last update takes the batches that are left, so that its updates are those of an epoch of
    `every` times larger batches. Sums over images and numbers of images are added: a batch that is not full
    has the weight of the images that it has.
    """
    updates = -(-steps_per_epoch // every)
    left = steps_per_epoch - (updates - 1) * every

    def mean(both: tuple[Values, Array], state: optax.OptState, params: Values | None = None) -> tuple:
        sums, images = both
        return rule.update(jax.tree.map(lambda x: x / images, sums), state, params)

    adding = optax.MultiSteps(
        optax.GradientTransformation(lambda both: rule.init(both[0]), mean),
        lambda update: jnp.where(update % updates == updates - 1, left, every),
        use_grad_mean=False,
        accumulator_dtype=float,
    )

    def init(params: Values) -> optax.OptState:
        return adding.init((params, jnp.zeros(())))

    def update(
        gradients: Values, state: optax.OptState, params: Values | None = None, *, count: Array, **_: Any
    ) -> tuple[Values, optax.OptState]:
        sums = jax.tree.map(lambda x: x * count.astype(x.dtype), gradients)
        return adding.update((sums, count), state, params)

    return optax.GradientTransformationExtraArgs(init, update)


def schedule(config: ConfigDict, *, steps_per_epoch: int, peak: ArrayLike | None = None) -> optax.Schedule:
    """The learning rate of an update: a linear warm-up, then the schedule over the remaining epochs.

    With `schedule.unit=epoch` every step of an epoch has the rate of its first one, as when PyTorch's
    scheduler is stepped once an epoch; with `step` the rate moves at every step. The warm-up always
    moves at every step.
    """
    options = config.schedule
    peak = config.optimizer.learning_rate if peak is None else peak
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
        # In the widest float, as in `rise`: optax would always divide the int32 count in float32.
        return main(whole.astype(float))

    def rise(count: ArrayLike) -> Array:
        return optax.linear_schedule(0.0, peak, warmup)(jnp.asarray(count).astype(float))

    return optax.join_schedules([rise, rate], [warmup]) if warmup else rate
