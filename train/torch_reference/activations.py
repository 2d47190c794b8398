"""Activation functions by name, in `torch.nn`."""

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {'relu': nn.ReLU, 'tanh': nn.Tanh, 'gelu': nn.GELU}
