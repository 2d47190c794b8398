"""Scaled dot-product attention with its own backward pass (Vaswani et al., 2017).

    s = q · kᵀ / sqrt(e)     a = exp(s - max s)     l = Σ_n a_n     y = (a · v) / l

Of these the backward pass needs a and l. With g the output's gradient and h = g / l:

    dv = aᵀ · h     ds = a (h · vᵀ - Σ_e h y)     dq = ds · k / sqrt(e)     dk = dsᵀ · q / sqrt(e)

No array of the size of s is divided, and of these arrays only a is stored. When JAX differentiates softmax,
it divides all of s, stores the result and a, and reads both again: 1.9 times as long on 2 CPU cores for 64
images of 256 tokens with 64 features (docs/speed.md).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets.layers.product import matmul

Heads = Float[Array, '*batch tokens features']


def attend(queries: Heads, keys: Heads, values: Heads) -> Heads:
    """y_t = Σ_n softmax_n(q_t · k_n / sqrt(e)) v_n, softmax in float32 at least."""
    return _attend(queries / math.sqrt(queries.shape[-1]), keys, values)


def weights(queries: Heads, keys: Heads) -> Float[Array, '*batch tokens tokens']:
    """softmax_n(q_t · k_n / sqrt(e)): the weight of token n's value in the output of token t."""
    scores = matmul(queries, keys, (False, True)) / math.sqrt(queries.shape[-1])
    return jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)))


@jax.custom_vjp
def _attend(q: Heads, k: Heads, v: Heads) -> Heads:
    return _forward(q, k, v)[0]


def _forward(q: Heads, k: Heads, v: Heads) -> tuple[Heads, tuple[Array, ...]]:
    exact = jnp.promote_types(q.dtype, jnp.float32)
    scores = matmul(q, k, (False, True)).astype(exact)
    a = jnp.exp(scores - jnp.max(scores, -1, keepdims=True))
    total = jnp.sum(a, -1, keepdims=True)
    a = a.astype(v.dtype)
    y = (matmul(a, v) / total).astype(v.dtype)
    return y, (q, k, v, y, a, total)


def _backward(saved: tuple[Array, ...], g: Heads) -> tuple[Heads, Heads, Heads]:
    q, k, v, y, a, total = saved
    h = (g / total).astype(v.dtype)
    inner = jnp.sum((h * y).astype(total.dtype), -1, keepdims=True)
    ds = (a * (matmul(h, v, (False, True)) - inner)).astype(q.dtype)
    dq = matmul(ds, k)
    # Products that use the large array in its layout; the small result is transposed instead.
    dk = matmul(q, ds, (True, False)).mT
    dv = matmul(h, a, (True, False)).mT
    return dq, dk, dv


_attend.defvjp(_forward, _backward)
