"""Single layers beside PyTorch's: every kind is measured, both ways."""

import dataclasses

import pytest
import torch

from flaxnets.layers import onednn
from train.benchmarks import layers

KINDS = {layer.name.split(',')[0]: layer for layer in layers.LAYERS}


@pytest.mark.parametrize('layer', KINDS.values(), ids=KINDS)
def test_a_row(layer):
    fast = layer.name.startswith('convolution 3x3') and onednn.available()
    small = dataclasses.replace(layer, shape=(2, *[4] * (len(layer.shape) - 2), layer.shape[-1]))
    seconds = layers.measure(small, 1, fast)
    assert all(len(values) == 1 for values in seconds.values())
    name, size, *numbers = layers.row(small, seconds)
    assert name == layer.name
    assert size.startswith('2 x 4')
    assert len(numbers) + 2 == len(layers.TITLES)
    assert all(float(number) > 0 for number in numbers)


@pytest.mark.parametrize('layer', layers.LAYERS, ids=lambda layer: layer.name)
def test_the_twin_is_as_large(layer):
    size = sum(values.numel() for values in layer.twin(torch.nn).parameters())
    assert size == layers.parameters(layer)
