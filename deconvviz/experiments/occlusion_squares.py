"""Places of the square that hides a part of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Squares:
    """Upper left corners of a square of `side` pixels: all pairs of a row `y` and a column `x`."""

    side: int
    y: tuple[int, ...]
    x: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.y) * len(self.x)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the places."""
        return len(self.y), len(self.x)

    def corners(self) -> Iterator[tuple[int, int]]:
        """Return the corners (y, x), row by row."""
        return ((y, x) for y in self.y for x in self.x)


def squares(
    image: tuple[int, int], size: float, stride: float, phase: float = 0.0, *, whole: bool = True
) -> Squares:
    """Return the places of a square in an image.

    Args:
        image: (rows, columns) of the image in pixels.
        size: Side of the square, as a share of the shorter side of the image.
        stride: Distance of neighbouring places, as a share of the shorter side.
        phase: Shift of all places, as a share of the stride.
        whole: Also use the last place in each direction, so that the squares cover the whole image.

    Raises:
        ImageError: If the square is larger than the image, or a share is not above 0.
    """
    shorter = min(image)
    if not (size > 0 and stride > 0):
        raise ImageError(
            f"a square of {size:g} with a stride of {stride:g} of the image: both must be above 0"
        )
    side, step = max(1, round(size * shorter)), max(1, round(stride * shorter))
    if side > shorter:
        raise ImageError(
            f"a square of {size:g} of the image's side ({side} px) is larger than the image "
            f"({image[0]} x {image[1]} px): give a size of at most 1"
        )
    first = round(phase * step)
    y, x = (_places(length - side, step, first, whole) for length in image)
    return Squares(side, y, x)


def _places(last: int, step: int, first: int, whole: bool) -> tuple[int, ...]:
    found = list(range(min(first, last), last + 1, step))
    return tuple([*found, last] if whole and found[-1] < last else found)


def at_places(values: Floats, of: Squares, wanted: Squares) -> Floats:
    """Interpolate values (rows, columns) at the places of one set of squares to the places of another.

    The interpolation is bilinear. Values outside the places are those of the nearest place.
    """
    rows = np.stack([np.interp(wanted.x, of.x, row) for row in values])
    columns: Floats = np.stack([np.interp(wanted.y, of.y, column) for column in rows.T], axis=1)
    return columns


def nearest_places(places: Squares, image: tuple[int, int]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return for each row and for each column of an image the index of the square with the nearest centre."""
    return tuple(
        np.abs((np.arange(length) + 0.5)[:, None] - (np.array(corners) + places.side / 2)[None]).argmin(1)
        for length, corners in zip(image, (places.y, places.x), strict=True)
    )
