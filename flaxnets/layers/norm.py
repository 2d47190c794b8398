"""Normalisation with PyTorch's conventions.

Batch normalisation (Ioffe and Szegedy, 2015): in training, y = scale * (x - m) / sqrt(v + eps) + bias
with mean m and *biased* variance v of the batch, over all axes but the last; in evaluation, with
running averages of them. As in PyTorch, eps is 1e-5, a step moves a running value to
0.9 * running + 0.1 * batch, and the running variance takes the *unbiased* variance, n / (n - 1) * v.

`nnx.BatchNorm` keeps the biased variance, averages means per device, and counts padded images; hence
this one, which adds sums and counts over the devices and leaves padding out (see `batch.py`).
"""

import math
from typing import Unpack

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
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = self._update(x)
        dtype = self.dtype or jnp.promote_types(x.dtype, self.scale.dtype)
        scale = self.scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * scale + (self.bias - mean * scale)).astype(dtype)

    def _update(self, x: Array) -> tuple[Array, Array]:
        """The batch's mean and biased variance; moves the running statistics towards them."""
        seen = batch.current()
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        weight = jnp.ones(len(x), x.dtype)
        if seen.mask is not None:
            chex.assert_shape(seen.mask, (len(x),))  # another shape would be broadcast without an error
            weight = jnp.asarray(seen.mask, x.dtype)
        positions = math.prod(x.shape[1:-1])
        count = seen.sum(jnp.sum(weight) * positions)

        def mean_of(values: Array) -> Array:
            # Each image first: the mask is applied to [B, C], not to all positions.
            sums = jnp.sum(values, range(1, values.ndim - 1))
            return seen.sum(jnp.sum(sums * weight[:, None], 0)) / count

        mean = mean_of(x)
        var = mean_of(jnp.square(x - mean))

        unbiased = var * count / jnp.maximum(count - 1, 1)
        for running, value in ((self.mean, mean), (self.var, unbiased)):
            new = jax.lax.stop_gradient(value).astype(running.dtype)
            running[...] = self.momentum * running[...] + (1 - self.momentum) * new
        self.num_batches_tracked[...] += 1
        return mean, var


def layer_norm(num_features: int, **types: Unpack[Types]) -> nnx.LayerNorm:
    """Layer normalisation over the last axis with PyTorch's eps, 1e-5 (Ba et al., 2016)."""
    return nnx.LayerNorm(num_features, epsilon=1e-5, use_fast_variance=False, **types)
