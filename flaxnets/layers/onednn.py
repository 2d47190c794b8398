"""oneDNN's convolution and product of matrices within a program that XLA compiles for one CPU.

PyTorch uses oneDNN too. jaxlib contains it, but XLA does not call it by itself. Here a convolution or product
becomes the call that XLA's own rewriting would make of it. The form of that call is not documented and
differs between versions, so it is made only with the versions of jaxlib that it was tested with, and only
where the caller says so: a program that contains it can neither be stored on disk nor divided among devices.
"""

import contextlib
import contextvars
import functools
import json
import math
import pathlib
import platform
import sys
from collections.abc import Iterator

import jax
import jaxlib.version
from jaxtyping import Array, Float

# Tested by tests/flaxnets/layers/test_onednn.py. A wrong call ends the process.
JAXLIB = ('0.10.2',)
CONVOLUTION, PRODUCT = '__onednn$convolution', '__onednn$matmul'

_used = contextvars.ContextVar('onednn', default=False)


def available() -> bool:
    """Whether this machine and this jaxlib have it: an x86 CPU under Linux, in a version that was tested."""
    machine = sys.platform == 'linux' and platform.machine() in ('x86_64', 'AMD64')
    return machine and jaxlib.version.__version__ in JAXLIB and jax.default_backend() == 'cpu'


@contextlib.contextmanager
def used() -> Iterator[None]:
    """What is traced inside computes its float32 convolutions and products with it, and their gradients.

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


def multiplies(left: Array, right: Array) -> bool:
    """Whether a product of these matrices, or stacks of them, that is traced now is to be `matmul`.

    Stacks always; a single product only on a processor with AVX-512 (docs/speed.md).
    """
    if not (computes(left.dtype) and left.dtype == right.dtype and left.shape[:-2] == right.shape[:-2]):
        return False
    return math.prod((*left.shape, *right.shape)) > 0 and (left.ndim > 2 or has_avx512())


@functools.cache
def has_avx512() -> bool:
    """Whether this processor computes 16 float32 numbers at once, as Linux describes it."""
    try:
        return ' avx512f ' in pathlib.Path('/proc/cpuinfo').read_text()
    except OSError:
        return False


def matmul(left: Array, right: Array, transposed: tuple[bool, bool]) -> Array:
    """The product of two matrices, or of the matrices of two stacks `[batch, _, _]`, of which one may be of a
    single matrix, after transposing those that `transposed` says. It has no gradient of its own."""
    batch = [max(len(left), len(right))] if left.ndim > 2 else []
    rows = left.shape[-1 if transposed[0] else -2]
    columns = right.shape[-2 if transposed[1] else -1]
    described = dict(zip(('transpose_a', 'transpose_b'), transposed, strict=True))
    call = jax.ffi.ffi_call(
        PRODUCT,
        jax.ShapeDtypeStruct((*batch, rows, columns), left.dtype),
        custom_call_api_version=1,
        vmap_method='sequential',
        legacy_backend_config=json.dumps({'onednn_matmul_config': described}),
    )
    return call(left, right)


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
        CONVOLUTION,
        jax.ShapeDtypeStruct((len(images), rows, columns, kernel.shape[3]), images.dtype),
        custom_call_api_version=1,
        vmap_method='sequential',
        legacy_backend_config=json.dumps({'onednn_conv_config': described}),
    )
    return call(images, kernel)
