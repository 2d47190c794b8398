"""Normalisation with PyTorch's conventions.

Batch normalisation (Ioffe and Szegedy, 2015): in training, y = scale * (x - m) / sqrt(v + eps) + bias
with mean m and *biased* variance v of the batch, over all axes but the last; in evaluation, with
running averages of them. As in PyTorch, eps is 1e-5, a step moves a running value to
0.9 * running + 0.1 * batch, and the running variance takes the *unbiased* variance, n / (n - 1) * v.

`nnx.BatchNorm` keeps the biased variance, averages means per device, and counts padded images; hence
this one, which adds sums and counts over the devices and leaves padding out (see `batch.py`).
"""

import functools
import math
from typing import Any, Unpack

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.layers import batch
from flaxnets.layers.init import Types


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last: `[B, ..., C] -> [B, ..., C]`.

    `model.train()` uses the batch's statistics and updates the running ones, `model.eval()` uses the
    running ones. Statistics are computed in float32 at least, whatever `dtype` is.
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **types: Unpack[Types],
    ):
        param_dtype = types.get('param_dtype', jnp.float32)
        self.scale = nnx.Param(jnp.ones(num_features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(num_features, param_dtype))
        self.mean = nnx.BatchStat(jnp.zeros(num_features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(num_features, param_dtype))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.dtype = types.get('dtype')
        self.use_running_average = False

    def __call__(self, x: Float[Array, 'batch *spatial channels']) -> Float[Array, 'batch *spatial channels']:
        dtype = self.dtype or jnp.promote_types(x.dtype, self.scale.dtype)
        scale, bias = self.scale[...], self.bias[...]
        if self.use_running_average:
            return _affine(x, self.mean[...], self.var[...], scale, bias, self.epsilon).astype(dtype)
        seen, mask = batch.current(), None
        if seen.mask is not None:
            chex.assert_shape(seen.mask, (len(x),))  # another shape would be broadcast without an error
            mask = jnp.asarray(seen.mask, jnp.promote_types(x.dtype, jnp.float32))
        y, *statistics = _normalised(x, scale, bias, mask, self.epsilon, seen.axis_name)
        self._update(*statistics)
        return y.astype(dtype)

    def _update(self, mean: Array, var: Array, count: Array) -> None:
        """Moves the running statistics towards those of a batch of `count` positions."""
        unbiased = var * count / jnp.maximum(count - 1, 1)
        for running, value in ((self.mean, mean), (self.var, unbiased)):
            new = jax.lax.stop_gradient(value).astype(running.dtype)
            running[...] = self.momentum * running[...] + (1 - self.momentum) * new
        self.num_batches_tracked[...] += 1


def _affine(x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    scale = scale * jax.lax.rsqrt(var + epsilon)
    return x * scale + (bias - mean * scale)


Normalised = tuple[Array, Array, Array, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalised(
    x: Array, scale: Array, bias: Array, mask: Array | None, epsilon: float, axis_name: str | None
) -> Normalised:
    """`x` normalised with its own statistics, and these: mean, biased variance, and of how many positions.

    The gradient is that of the first alone. It is written out here as a multiple of y's gradient and one of
    x for each channel, plus a constant: derived by JAX it takes three times as long on a CPU.
    """
    seen = batch.Batch(axis_name=axis_name)
    values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    images = jnp.asarray(len(x), values.dtype) if mask is None else jnp.sum(mask)
    count = seen.sum(images * math.prod(x.shape[1:-1]))
    mean = seen.sum(_over_positions(values, mask)) / count
    var = seen.sum(_over_positions(jnp.square(values - mean), mask)) / count
    return _affine(x, mean, var, scale, bias, epsilon), mean, var, count


def _over_positions(values: Array, mask: Array | None = None) -> Array:
    """The sum over all axes but the last: of each image first, so that the mask meets [B, C]."""
    sums = jnp.sum(values, range(1, values.ndim - 1))
    return jnp.sum(sums if mask is None else sums * mask[:, None], 0)


def _forward(
    x: Array, scale: Array, bias: Array, mask: Array | None, epsilon: float, axis_name: str | None
) -> tuple[Normalised, tuple[Any, ...]]:
    y, mean, var, count = _normalised(x, scale, bias, mask, epsilon, axis_name)
    return (y, mean, var, count), (x, scale, bias, mask, mean, var, count)


def _backward(
    epsilon: float, axis_name: str | None, saved: tuple[Any, ...], gradients: tuple[Any, ...]
) -> tuple[Any, ...]:
    x, scale, bias, mask, mean, var, count = saved
    seen = batch.Batch(axis_name=axis_name)
    dy = gradients[0].astype(mean.dtype)
    values = x.astype(mean.dtype)
    inverse = jax.lax.rsqrt(var + epsilon)
    of_bias = _over_positions(dy)
    of_inverse = _over_positions(dy * (values - mean))
    of_mean = -scale * inverse * seen.sum(of_bias) / count
    of_var = -scale * inverse**3 * seen.sum(of_inverse) / count
    through_statistics = values * of_var + (of_mean - mean * of_var)
    if mask is not None:
        through_statistics *= mask.reshape(-1, *[1] * (x.ndim - 1))
    of_x = (dy * (scale * inverse) + through_statistics).astype(x.dtype)
    of_scale = (of_inverse * inverse).astype(scale.dtype)
    return of_x, of_scale, of_bias.astype(bias.dtype), None if mask is None else jnp.zeros_like(mask)


_normalised.defvjp(_forward, _backward)


def layer_norm(num_features: int, **types: Unpack[Types]) -> nnx.LayerNorm:
    """Layer normalisation over the last axis with PyTorch's eps, 1e-5 (Ba et al., 2016)."""
    return nnx.LayerNorm(num_features, epsilon=1e-5, use_fast_variance=False, **types)
