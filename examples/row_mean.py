"""A layer of your own: one file that is a layer, a model and its experiment.

    python -m train --config examples/row_mean.py

Copy it anywhere in the folder you start from, and name it in `config.model.name`.
"""

import jax.numpy as jnp
from flax import nnx

from flaxnets.layers import init
from flaxnets.models.convnn import stack_of
from train import config as c


class RowMean(nnx.Module):
    """[B, H, W, in] -> [B, H, W, out]: a linear layer of a pixel, its row's mean and its column's mean."""

    def __init__(self, in_features, out_features, image_size, **types):  # dtype, param_dtype, rngs
        self.mix = init.linear(3 * in_features, out_features, **types)

    def __call__(self, x):
        row = jnp.broadcast_to(x.mean(2, keepdims=True), x.shape)
        column = jnp.broadcast_to(x.mean(1, keepdims=True), x.shape)
        return self.mix(jnp.concatenate([x, row, column], axis=-1))


row_mean = stack_of(RowMean)  # a model: num_layers times (RowMean, ReLU), then a linear layer


def get_config(argument=''):
    """Five epochs on the digits that come with scikit-learn."""
    config = c.defaults()
    config.model.name = 'examples.row_mean:row_mean'  # this file, that builder
    config.model.num_layers = 3
    config.epochs = 5
    c.embedded_digits(config, image_size=16, channels=1)
    return config
