"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

Activation = Callable[[Array], Array]


def gelu(x: Array) -> Array:
    """x * Phi(x) with the exact normal distribution function, PyTorch's default (Hendrycks and Gimpel,
    2016); JAX's default is an approximation by tanh."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation] = {'relu': jax.nn.relu, 'tanh': jnp.tanh, 'gelu': gelu}
