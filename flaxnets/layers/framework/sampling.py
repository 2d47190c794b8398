"""Which tokens are candidates in the published framework: all, some drawn at random, or those on a grid.

Random candidates and a grid's are the same for all images of a batch. With either, a token is its own first
neighbour and takes K - 1 more. Where a map has no more tokens than the sample would, all are candidates:
deep in a network the maps get small.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from flaxnets.errors import UserError
from flaxnets.layers.candidates import Indices, check_enough, check_given, check_none_given, draw
from flaxnets.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingOptions(Options):
    """Options of layers that choose neighbours."""

    num_neighbors: int = option(9, 'K, the token itself included', at_least=1)
    sampling: str = option(
        'all', 'which tokens are candidates; random ones anew at each call', choices=('all', 'random', 'grid')
    )
    num_samples: int = option(
        16, 'random candidates, or the side of the grid; maps with fewer tokens: all', at_least=1
    )


@dataclasses.dataclass(frozen=True)
class Sample:
    """The candidates of one layer.

    Attributes:
        tokens: how many there are to draw from.
        drawn: how many are drawn at each call; 0: none.
        fixed: a grid's candidates; None: no grid.
    """

    tokens: int
    drawn: int = 0
    fixed: tuple[int, ...] | None = None

    @property
    def is_all(self) -> bool:
        """Whether every token is a candidate."""
        return not self.drawn and self.fixed is None

    @property
    def size(self) -> int:
        """How many candidates there are."""
        return self.drawn or (self.tokens if self.fixed is None else len(self.fixed))

    def check(self, num_neighbors: int, place: str) -> None:
        """Raises a `UserError` if K is above the candidates that a layer of `place` has."""
        among = f'the {self.size} candidates of {place}'
        check_enough(
            num_neighbors, self.size, among, 'lower it, raise model.num_samples or use larger images'
        )

    def indices(self, given: Indices | None, rngs: nnx.Rngs | None) -> Int[Array, ' candidates'] | None:
        """The candidates' numbers; None: all. `given` replaces a random draw.

        Raises:
            UserError: candidates given where none are drawn, or not as many; no random stream.
        """
        if not self.drawn:
            check_none_given(given)
            return None if self.fixed is None else jnp.asarray(np.asarray(self.fixed))
        if given is None:
            return draw(self.tokens, self.drawn, rngs)
        return check_given(given, self.drawn)


def check_grid(options: SamplingOptions, most: int, place: str) -> None:
    """Raises a `UserError` if a grid's side is above `most`, what the whole image has."""
    if options.sampling == 'grid' and options.num_samples > most:
        raise UserError(
            f'model.num_samples: expected 1 to {most} beside sampling=grid, for {place}, '
            f'got {options.num_samples}; lower it or use larger images'
        )
