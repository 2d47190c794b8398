"""flaxnets: small vision networks in Flax NNX that compute what their PyTorch originals compute."""

from flaxnets import interop
from flaxnets.errors import UserError
from flaxnets.registry import count_parameters, create_model, list_models, register

__all__ = ['UserError', 'count_parameters', 'create_model', 'interop', 'list_models', 'register']
