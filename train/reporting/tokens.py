"""Where a layer's tokens lie in the image, and the few that pictures show."""

import math

# Shares of height and width: the centre, one place above it on the left, one below it on the right.
PLACES = ((0.5, 0.5), (0.25, 0.3), (0.72, 0.75))
# Their colours.
COLOURS = ('orange', 'blue', 'green')


def grid_of(tokens: int, shape: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of this many tokens that cover an image of `shape`; None where there is none."""
    height, width = shape
    rows = round(math.sqrt(tokens * height / width))
    if rows < 1 or tokens % rows:
        return None
    columns = tokens // rows
    return (rows, columns) if abs(rows / columns - height / width) < 0.01 * height / width else None


def queries(grid: tuple[int, int]) -> list[int]:
    """The numbers of the tokens at `PLACES`."""
    return [int(row * grid[0]) * grid[1] + int(column * grid[1]) for row, column in PLACES]
