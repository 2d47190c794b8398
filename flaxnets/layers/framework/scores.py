"""Scores of the neighbours that were chosen, with gradients to keys and queries.

The choice looks at all candidates and has no gradient (`selection.py`); of its scores only the K chosen ones
are computed again here, so that no array of all tokens by all candidates is kept.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxnets.layers.gather import paired_products, rows
from flaxnets.layers.similarity import unit

Tokens = Float[Array, 'batch tokens features']
Candidates = Float[Array, 'batch candidates features']
Ranks = Float[Array, 'ranks batch tokens']


def chosen_scores(
    similarity: str, keys: Tokens, queries: Candidates, chosen: Int[Array, 'ranks batch tokens']
) -> Ranks:
    """`SIMILARITIES[similarity]` of each token's key and the query of each candidate that it chose."""
    if similarity == 'cosine':
        return jnp.clip(paired_products(unit(keys), unit(queries), chosen), -1, 1)
    products = paired_products(keys, queries, chosen)
    if similarity == 'matmul':
        return products
    squares = jnp.sum(queries * queries, -1, keepdims=True)
    gathered = jnp.moveaxis(rows(squares, jnp.moveaxis(chosen, 0, -1))[..., 0], -1, 0)
    return -jnp.maximum(jnp.sum(keys * keys, -1) + gathered - 2 * products, 0)
