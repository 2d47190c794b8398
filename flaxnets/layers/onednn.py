"""oneDNN's convolution, which PyTorch uses too, within a program that XLA compiles for one CPU.

jaxlib contains oneDNN, but XLA does not call it for a convolution by itself. Here a convolution becomes the
call that XLA's own rewriting would make of it. The form of that call is not documented and differs between
versions, so it is made only with the versions of jaxlib that it was tested with, and only where the caller
says so: a program that contains it can neither be stored on disk nor divided among devices.
"""

import contextlib
import contextvars
import json
import platform
import sys
from collections.abc import Iterator

import jax
import jaxlib.version
from jaxtyping import Array, Float

# Tested by tests/flaxnets/layers/test_onednn.py. A wrong call ends the process.
JAXLIB = ('0.10.2',)
CALL = '__onednn$convolution'

_used = contextvars.ContextVar('onednn', default=False)


def available() -> bool:
    """Whether this machine and this jaxlib have it: an x86 CPU under Linux, in a version that was tested."""
    machine = sys.platform == 'linux' and platform.machine() in ('x86_64', 'AMD64')
    return machine and jaxlib.version.__version__ in JAXLIB and jax.default_backend() == 'cpu'


@contextlib.contextmanager
def used() -> Iterator[None]:
    """What is traced inside computes its float32 convolutions with it, forward and of the images' gradient.

    Around the body of a jitted function for one device, whose programs are not stored.
    """
    token = _used.set(True)
    try:
        yield
    finally:
        _used.reset(token)


def computes(dtype: jax.typing.DTypeLike) -> bool:
    """Whether a convolution in `dtype` that is traced now is to be `convolution`."""
    return _used.get() and dtype == 'float32'


def convolution(
    images: Float[Array, 'batch height width channels'],
    kernel: Float[Array, 'side side channels out'],
    stride: int = 1,
    padding: int | None = None,
) -> Float[Array, 'batch rows columns out']:
    """A convolution with `padding` zeros on every side, by default as many as keep the size. It has no
    gradient of its own."""
    side = len(kernel)
    padding = side // 2 if padding is None else padding
    rows, columns = ((size + 2 * padding - side) // stride + 1 for size in images.shape[1:3])
    axes = {'data': {'batch_dim': 0, 'feature_dim': 3, 'spatial_dims': [1, 2]}}
    described = {
        'dims': 4,
        'feature_groups': 1,
        'input': {'dims': 4, **axes},
        'kernel': {
            'dims': 4,
            'filter': {'input_feature_dim': 2, 'output_feature_dim': 3, 'spatial_dims': [0, 1]},
        },
        'output': {'dims': 4, **axes},
        'window': {
            'size': kernel.shape[:2],
            'pad_left': [padding] * 2,
            'pad_right': [padding] * 2,
            'strides': [stride] * 2,
            'window_dilations': [1, 1],
        },
    }
    call = jax.ffi.ffi_call(
        CALL,
        jax.ShapeDtypeStruct((len(images), rows, columns, kernel.shape[3]), images.dtype),
        custom_call_api_version=1,
        vmap_method='sequential',
        legacy_backend_config=json.dumps({'onednn_conv_config': described}),
    )
    return call(images, kernel)
