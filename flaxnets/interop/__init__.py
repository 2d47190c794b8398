"""PyTorch and flaxnets, both ways: weights, files, and arrays in memory.

    model = interop.from_torch(model, torch_model.state_dict())          weights in ...
    weights = interop.to_torch(model)                                    ... and out, {key: numpy array}
    interop.load('model.pt'), interop.save('model.safetensors', model)   files
    interop.to_jax(tensor), interop.to_tensor(array)                     arrays in memory, without a copy

Every model has one map (`maps/`): rows that pair the published PyTorch keys with a path in the NNX state
and the change of layout between them. `from_torch` and `to_torch` use the same rows in the two directions.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from flaxnets.errors import UserError
from flaxnets.interop import conversion, files, matching, state_dicts
from flaxnets.interop.atomic import replacing
from flaxnets.interop.model_card import ModelCard

PathLike = str | os.PathLike[str]


def from_torch(
    model: nnx.Module,
    state_dict: Mapping[str, Any],
    *,
    skip: str | Sequence[str] = (),
    rename: str | Sequence[str] = (),
) -> nnx.Module:
    """Loads a PyTorch state dict into `model`, in place, and returns it.

    Every key is used, ignored because the published code never uses it, or an error.

    Args:
        model: a model of `list_models()`, or one registered with a `torch_map`. An abstract one is enough,
            and needs no initial values: `nnx.eval_shape(lambda: create_model(...))`.
        state_dict: {published key: tensor or array}, or a checkpoint with it under 'state_dict',
            'model_state_dict', 'model' or 'net'; the prefixes of DataParallel, torch.compile and Lightning
            are removed, and the keys of known other code (timm's VGG16) are translated. Values are
            converted to the model's dtypes.
        skip: what the model keeps, to replace a head for example: published keys or paths in the model,
            their beginnings up to a dot ('classifier.6') or regular expressions. Keys that only the
            state dict has are left out in the same way.
        rename: rules 'OLD=NEW' for other keys: each becomes `re.sub(OLD, NEW, key)`.

    Raises:
        UserError: one line that lists every key that is missing, not in the model, of another shape or with
            values that are not finite. The model is not changed then.
    """
    return _filled(model, matching.match(model, state_dicts.arrays(state_dict), skip=skip, rename=rename))


def _filled(model: nnx.Module, match: matching.Match) -> nnx.Module:
    variables = conversion.flat_state(model)
    for path, value in conversion.converted(model, match.given, match.loaded).items():
        variables[path].set_value(value)
    return model


def to_torch(model: nnx.Module, *, unused: bool = True) -> dict[str, np.ndarray]:
    """The model's values under the keys and in the layouts of the published PyTorch code.

    `load_state_dict(..., strict=True)` takes them. Some published layers own weights that they do not use (a
    1x1 convolution, see `layers/tokens.py`; half a block, see `models/block_cnn.py`): these are zeros here,
    and `unused=False` leaves them out.
    """
    return conversion.published(model, values_of(model), unused=unused)


def values_of(model: nnx.Module) -> dict[str, Any]:
    """The model's values by their own names, {path joined by '/': array}."""
    return {path: variable[...] for path, variable in conversion.flat_state(model).items()}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a file: the weights under published keys, or by paths in the model (`own`), the model
    card if there is one, and PyTorch's optimiser state if it is in the same file."""

    state_dict: dict[str, np.ndarray]
    card: ModelCard | None = None
    optimizer: dict[str, Any] | None = None
    format: str = ''
    own: bool = False

    def create_model(self) -> nnx.Module:
        """The model of the card, with these weights."""
        if self.card is None:
            raise UserError(
                'no model card came with the weights; build the model with create_model and load them with '
                'interop.from_torch(model, checkpoint.state_dict)'
            )
        model = self.card.create_model()
        return _filled(model, matching.match(model, self.state_dict, own=self.own))


def load(path: PathLike) -> Checkpoint:
    """Reads `.pt`, `.pth` or `.safetensors`; the content decides which it is. No code in a file is ever run.

    Raises:
        UserError: one line that names the file and what is wrong with it.
    """
    path = pathlib.Path(path)
    try:
        with path.open('rb') as file:
            start = file.read(9)
        pickled = start.startswith((b'PK', b'\x80'))
        # safetensors begins with the length of its header, whose bytes may be those that begin a pickle.
        length = int.from_bytes(start[:8], 'little')
        if start[8:] == b'{' and (not pickled or length < path.stat().st_size):
            return _load_safetensors(path)
        if pickled:
            return _load_pt(path)
        raise files.BadFile('neither a PyTorch file nor safetensors' if start else 'empty')
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error})') from None
    except (files.BadFile, UserError) as error:
        raise UserError(f'{path}: {error}') from None


def save(
    path: PathLike,
    model: nnx.Module | Mapping[str, np.ndarray],
    card: ModelCard | None = None,
    *,
    own: bool = False,
) -> None:
    """Writes a model, or `to_torch(model)`, as `.safetensors`, `.pt` or `.pth`, whole or not at all.

    The card goes into the header of `.safetensors`, and for `.pt` into a separate file next to it,
    `NAME.pt.json`, so that the `.pt` is a plain state dict: `torch.load(path, weights_only=True)`.

    With `own` a `.safetensors` has the model's own names, paths joined by '/', and layouts: for a model
    that has no PyTorch map. The header says so ('format': 'flax'), and `load` reads it.

    Raises:
        UserError: another suffix; `.pt` without PyTorch; a path that cannot be written.
    """
    path = pathlib.Path(path)
    if isinstance(model, nnx.Module):
        arrays = values_of(model) if own else to_torch(model)
    else:
        arrays = dict(model)
    if own and path.suffix != '.safetensors':
        raise UserError(f'{path}: expected a name that ends in .safetensors for weights by our own names')
    if path.suffix not in {'.safetensors', '.pt', '.pth'}:
        raise UserError(f'{path}: expected a name that ends in .safetensors, .pt or .pth')
    try:
        with replacing(path, shared=True) as partial:
            if path.suffix == '.safetensors':
                metadata = {'format': 'flax' if own else 'pt'} | (
                    {'flaxnets': card.to_json()} if card else {}
                )
                contiguous = {key: np.array(value, order='C') for key, value in arrays.items()}
                safetensors.numpy.save_file(contiguous, partial, metadata)
            else:
                tensors = {key: to_tensor(value) for key, value in arrays.items()}
                with partial.open('wb') as file:
                    _torch(f'to write {path}').save(tensors, file)
                card_path(path).unlink(missing_ok=True)  # it may describe the file that is replaced
                if card:
                    card_path(path).write_text(card.to_json())
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f'{path}: cannot be written ({error})') from None


def card_path(path: PathLike) -> pathlib.Path:
    """Where the model card of a `.pt` file is."""
    path = pathlib.Path(path)
    return path.with_name(path.name + '.json')


def _load_safetensors(path: pathlib.Path) -> Checkpoint:
    try:
        with safetensors.safe_open(path, 'np') as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
    except safetensors.SafetensorError as error:
        raise files.BadFile(f'damaged or truncated ({error})') from None
    card = ModelCard.from_json(metadata['flaxnets']) if 'flaxnets' in metadata else None
    own = metadata.get('format') == 'flax'
    return Checkpoint(arrays if own else state_dicts.arrays(arrays), card, format='safetensors', own=own)


def _load_pt(path: pathlib.Path) -> Checkpoint:
    content, how = _read_pt(path)
    try:
        text = card_path(path).read_text()
    except FileNotFoundError:
        text = ''
    optimizer = None
    if isinstance(content, Mapping):
        states = [content.get(key) for key in ('optimizer_state_dict', 'optimizer')]
        several = content.get('optimizer_states')  # Lightning's, of which one is clear
        states += several if isinstance(several, list) and len(several) == 1 else []
        optimizer = next((o for o in states if isinstance(o, dict) and 'param_groups' in o), None)
    return Checkpoint(
        state_dicts.arrays(content), ModelCard.from_json(text) if text else None, optimizer, how
    )


def _read_pt(path: pathlib.Path) -> tuple[Any, str]:
    """The file's content and who read it: PyTorch where there is one, admitting weights only."""
    with path.open('rb') as file:
        zipped = file.read(2) == b'PK'
    try:
        import torch

        return torch.load(path, map_location='cpu', weights_only=True), 'PyTorch, weights only'
    except ImportError:
        if not zipped:
            raise files.BadFile(
                "in PyTorch's format before 1.6, which only PyTorch reads; pip install 'flaxnets[torch]'"
            ) from None
    except Exception as error:  # many types and pages of text; ours says it in one line
        if not zipped:
            code = re.search(r'GLOBAL (\S+)', str(error))
            raise files.BadFile(
                files.CODE.format(code[1]) if code else 'a pickle, but no PyTorch file, or a damaged one'
            ) from None
    with path.open('rb') as file:
        return files.read(file), 'PyTorch, read without it'


def to_jax(tensor: Any) -> jax.Array:
    """A PyTorch tensor as a JAX array, by DLPack.

    Both share the memory where JAX can use it: dense, on a device that both know, aligned to 64 bytes on
    a CPU, a dtype that JAX has enabled. Otherwise the values are copied. JAX takes its arrays to be
    constant: do not change a shared tensor in place afterwards.

        logits = model(interop.to_jax(images).transpose(0, 2, 3, 1))      # NCHW to NHWC
    """
    tensor = tensor.detach()
    try:
        return jax.dlpack.from_dlpack(tensor)
    except (RuntimeError, BufferError, TypeError, ValueError):
        return jnp.asarray(state_dicts.to_numpy(tensor))


def to_tensor(array: jax.Array | np.ndarray) -> Any:
    """An array as a PyTorch tensor, by DLPack: the reverse of `to_jax`, without a copy where that
    works. Do not write into a tensor that shares a JAX array's memory."""
    torch = _torch('to make a tensor')
    try:
        return torch.from_dlpack(array)
    except (RuntimeError, BufferError, TypeError, ValueError, AttributeError):
        values = np.array(array)
        if values.dtype == jnp.bfloat16:
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values)


def _torch(purpose: str) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(f"{purpose}, PyTorch is needed: pip install 'flaxnets[torch]'") from None
    return torch
