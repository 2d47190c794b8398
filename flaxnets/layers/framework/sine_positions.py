"""The framework's position table: waves and angles in float32, as PyTorch computed the published one.

    table[p, 2i] = sin(p · w_i)      table[p, 2i + 1] = cos(p · w_i)      w_i = 10000^(-2i / width)

The exact table (`patches.cosine_positions`) differs from it by up to 1e-5, because an angle of 196 radians
has only five digits behind the point in float32.
"""

import math

import numpy as np
from jaxtyping import Float


def sine_positions(tokens: int, width: int) -> Float[np.ndarray, 'tokens width']:
    """The table [tokens, width], float32, each sine of its float32 angle rounded once."""
    exponents = np.arange(0, width, 2).astype(np.float32) * np.float32(-math.log(10000) / width)
    waves = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (np.arange(tokens).astype(np.float32)[:, None] * waves).astype(np.float64)
    table = np.zeros((tokens, width), np.float32)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)[:, : width // 2]
    return table
