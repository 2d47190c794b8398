"""Products of matrices: XLA's or, where a program may call it, oneDNN's (`onednn.py`)."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets.layers import onednn


def product(
    rows: Float[Array, '*batch features'],
    matrix: Float[Array, 'features out'],
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, '*batch out']:
    """`rows @ matrix`, as one product of two matrices, whatever the number of axes.

    With three axes XLA transposes the rows on CPU for the matrix's gradient: forward and backward together
    take two to four times as long (docs/speed.md).
    """
    flat = matmul(rows.reshape(-1, rows.shape[-1]), matrix, precision=precision)
    return flat.reshape(*rows.shape[:-1], -1)


def matmul(
    left: Float[Array, '*batch _ _'],
    right: Float[Array, '*batch _ _'],
    transposed: tuple[bool, bool] = (False, False),
    *,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, '*batch _ _']:
    """The product of two matrices, or of each pair of two stacks of them, after transposing those that
    `transposed` says. `precision` is XLA's; oneDNN computes float32 exactly as it is."""
    if onednn.multiplies(left, right):
        return _by_onednn(left, right, transposed)
    left, right = (x.mT if turn else x for x, turn in zip((left, right), transposed, strict=True))
    return jnp.matmul(left, right, precision=precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_onednn(left: Array, right: Array, transposed: tuple[bool, bool]) -> Array:
    batch = left.shape[:-2]
    if batch:
        left, right = (x.reshape(math.prod(batch), *x.shape[-2:]) for x in (left, right))
    y = onednn.matmul(left, right, transposed)
    return y.reshape(*batch, *y.shape[-2:])


def _forward(left: Array, right: Array, transposed: tuple[bool, bool]) -> tuple[Array, tuple[Array, Array]]:
    return _by_onednn(left, right, transposed), (left, right)


def _backward(
    transposed: tuple[bool, bool], saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    left, right = saved
    turn_left, turn_right = transposed
    if turn_left:
        of_left = _by_onednn(right, gradient, (turn_right, True))
    else:
        of_left = _by_onednn(gradient, right, (False, not turn_right))
    if turn_right:
        of_right = _by_onednn(gradient, left, (True, turn_left))
    else:
        of_right = _by_onednn(left, gradient, (not turn_left, False))
    return of_left, of_right


_by_onednn.defvjp(_forward, _backward)


def across(
    x: Float[Array, 'batch tokens features'],
    matrix: Float[Array, 'tokens out'],
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, 'batch out features']:
    """y_s = Σ_t x_t · matrix[t, s]: `matrix.T @ x` for each of a stack of matrices."""
    if onednn.multiplies(x, x) and x.dtype == matrix.dtype:
        return _across(x, matrix)
    # As one product of two matrices: as an einsum its backward pass takes twice as long on CPU.
    y = matmul(matrix, _tokens_first(x), (True, False), precision=precision)
    return jnp.moveaxis(y.reshape(-1, len(x), x.shape[-1]), 0, 1)


def _tokens_first(x: Array) -> Array:
    return jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


@jax.custom_vjp
def _across(x: Array, matrix: Array) -> Array:
    """oneDNN multiplies each of the stack with the same matrix, and nothing is transposed."""
    return onednn.matmul(matrix[None], x, (True, False))


def _across_forward(x: Array, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    return _across(x, matrix), (x, matrix)


def _across_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, matrix = saved
    of_matrix = matmul(_tokens_first(x), _tokens_first(gradient), (False, True))
    return onednn.matmul(matrix[None], gradient, (False, False)), of_matrix


_across.defvjp(_across_forward, _across_backward)
