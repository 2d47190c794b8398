"""Activation functions by name."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flaxnets import options

Activation = Callable[[Array], Array]
Name = Literal['relu', 'tanh', 'gelu']


def gelu(x: Array) -> Array:
    """x * Phi(x) with the normal distribution function itself, PyTorch's default
    (Hendrycks and Gimpel, 2016); JAX's default is its approximation by tanh."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation] = {'relu': jax.nn.relu, 'tanh': jnp.tanh, 'gelu': gelu}


def by_name(name: str) -> Activation:
    """The function called `name`; a `UserError` with the choices if there is none."""
    options.one_of('activation', name, Name)
    return ACTIVATIONS[name]
