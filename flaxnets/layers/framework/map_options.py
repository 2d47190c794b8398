"""Options of the framework's layers for images, and what follows from them for a map of some size."""

import dataclasses

from flaxnets.errors import UserError
from flaxnets.layers.framework.bordered_map import BorderedMap
from flaxnets.layers.framework.sampling import Sample, SamplingOptions
from flaxnets.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNN2dOptions(SamplingOptions):
    """Options of the ConvNN layer for images."""

    similarity: str = option('cosine', 'of two tokens', choices=('cosine', 'euclidean'))
    similarity_of: str = option('features', 'what is compared', choices=('features', 'position', 'both'))
    blend: float = option(0.5, 'share of the features where both are compared')
    aggregation: str = option('features', 'what is gathered and convolved', choices=('features', 'both'))
    padding: int = option(1, 'border of zeros, whose tokens are candidates too', at_least=0)
    shuffle_scale: int = option(1, 'side of the blocks of pixels that make a token', at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.blend <= 1:
            raise UserError(f'model.blend: expected a share from 0 to 1, got {self.blend}')

    @property
    def positions(self) -> bool:
        """Whether positions matter."""
        return 'both' in (self.similarity_of, self.aggregation) or self.similarity_of == 'position'

    def map(self, image_size: tuple[int, int]) -> BorderedMap:
        """The tokens of an image.

        Raises:
            UserError: a size that the blocks do not divide; positions on a map of one row or column.
        """
        (height, width), scale = image_size, self.shuffle_scale
        if height % scale or width % scale:
            raise UserError(
                f'model.shuffle_scale: expected a divisor of the {height} x {width} map, got {scale}'
            )
        there = BorderedMap(height // scale, width // scale, self.padding, scale)
        if self.positions and min(there.sides) < 2:
            raise UserError(
                f'model.similarity_of: expected features alone, also in model.aggregation, on a map of '
                f'{there.sides[0]} x {there.sides[1]} tokens, which has no positions; use larger images or '
                'model.padding=1'
            )
        return there

    def sample(self, there: BorderedMap) -> Sample:
        """The candidates on a map.

        Raises:
            UserError: fewer of them than neighbours.
        """
        count = self.num_samples
        sample = Sample(there.tokens)
        if self.sampling == 'random' and count <= there.tokens:
            sample = Sample(there.tokens, drawn=count)
        elif self.sampling == 'grid' and count <= min(there.rows, there.columns):
            sample = Sample(there.tokens, fixed=tuple(map(int, there.grid(count))))
        sample.check(self.num_neighbors, f'a {there.rows} x {there.columns} map')
        return sample
