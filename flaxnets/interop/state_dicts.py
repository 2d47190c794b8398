"""State dicts in the forms in which they are saved.

A state dict may be in a dictionary with an optimiser's state, have the prefixes of
`torch.nn.DataParallel` and `torch.compile`, and contain tensors of any device and dtype. `arrays` makes
{key: numpy array} of it; `matching.py` says how that fits a model.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxnets.errors import UserError

# Where training scripts keep the weights in a checkpoint, in the order they are looked for.
NESTED = ('state_dict', 'model_state_dict', 'model', 'net')
# Components that wrappers insert into keys: DataParallel around the model or a part of it, torch.compile.
WRAPPERS = {'module', '_orig_mod'}


def arrays(value: Any) -> dict[str, np.ndarray]:
    """{key: array} of a state dict, or of a checkpoint that contains one, without the prefixes of wrappers.

    Raises:
        UserError: if there is none, or a value is no plain dense tensor.
    """
    found = {}
    for key, tensor in find(value).items():
        plain = unwrapped(key)
        if plain in found:
            raise UserError(f'state dict: {shown(key)} is there twice, with and without a wrapper prefix')
        try:
            found[plain] = to_numpy(tensor)
        except (TypeError, RuntimeError) as error:
            reason = str(error).partition('\n')[0]
            raise UserError(f'state dict: {shown(key)} is no plain dense tensor ({reason})') from None
    return found


def unwrapped(key: str) -> str:
    """The key without what `torch.nn.DataParallel` and `torch.compile` insert."""
    return '.'.join(part for part in key.split('.') if part not in WRAPPERS)


def find(value: Any) -> Mapping[str, Any]:
    """The mapping from keys to tensors in `value`: itself, or its value under one of `NESTED`."""
    for _ in range(9):  # a malicious file may nest without end
        if not isinstance(value, Mapping):
            break
        if value and all(isinstance(key, str) and is_array(item) for key, item in value.items()):
            return value
        nested = next((value[key] for key in NESTED if isinstance(value.get(key), Mapping)), None)
        if nested is None:
            break
        value = nested
    if isinstance(value, Mapping):
        came = f'a dictionary of {", ".join(shown(key) for key in list(value)[:10]) or "nothing"}'
    elif hasattr(value, 'state_dict'):
        came = f'a {type(value).__name__}; pass its .state_dict()'
    else:
        came = f'a {type(value).__name__}'
    raise UserError(
        f'expected a state dict, {{name: tensor}}, alone or under {", ".join(map(repr, NESTED))}, got {came}'
    )


def is_array(value: Any) -> bool:
    """A tensor or array of any library."""
    return hasattr(value, 'shape') and hasattr(value, 'dtype')


def to_numpy(value: Any) -> np.ndarray:
    """A PyTorch tensor or any array as numpy's; bfloat16 stays bfloat16."""
    if not hasattr(value, 'detach'):
        return np.asarray(value)
    tensor = value.detach().cpu()
    if str(tensor.dtype) == 'torch.bfloat16':
        import torch  # the caller has it, or there would be no tensor

        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def shown(key: Any) -> str:
    """A key for a message of one line."""
    text = str(key)
    return text if text.isprintable() and len(text) < 200 else repr(text[:200])
