"""How much alike two tokens are: larger is more alike. Each is symmetric, s(a, b) = s(b, a)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets.layers.product import matmul

Keys = Float[Array, '*batch tokens features']
Queries = Float[Array, '*batch candidates features']
Scores = Float[Array, '*batch tokens candidates']


def cosine(keys: Keys, queries: Queries) -> Scores:
    """Cosine of the angle between every key and every query; norms below 1e-12 count as 1e-12."""
    return dot(unit(keys), unit(queries))


def clipped_cosine(keys: Keys, queries: Queries) -> Scores:
    """The cosine within [-1, 1]: parallel tokens that rounding puts above 1 are all equally near."""
    return jnp.clip(cosine(keys, queries), -1, 1)


def euclidean(keys: Keys, queries: Queries) -> Scores:
    """Squared distance between every key and every query, negated: the nearest is the most similar."""
    squares = jnp.sum(keys * keys, -1)[..., :, None] + jnp.sum(queries * queries, -1)[..., None, :]
    return -jnp.maximum(squares - 2 * dot(keys, queries), 0)


def dot(keys: Keys, queries: Queries) -> Scores:
    """Product of every key with every query."""
    return matmul(keys, queries, (False, True), precision=jax.lax.Precision.HIGHEST)


def unit(x: Float[Array, '*batch features']) -> Float[Array, '*batch features']:
    """`x` with norm 1; norms below 1e-12 count as 1e-12."""
    # Clamped before the root, whose derivative at the zero vector would be infinite.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-24))


SIMILARITIES = {'cosine': clipped_cosine, 'euclidean': euclidean, 'matmul': dot}
