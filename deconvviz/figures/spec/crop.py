"""Base class of the tiles of a sheet and the crops of a top-nine figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from deconvviz.figures.spec.arrays import Array, size_of

Size = tuple[int, int]
"""(height, width) in pixels."""


class Cut(NamedTuple):
    """Sides on which a receptive field is cut at the image border."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False


WHOLE = Cut()


class Projected:
    """A projection with its size."""

    projection: Array

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return size_of(self.projection)

    @property
    def zero(self) -> bool:
        """True if every value of the projection is zero."""
        return not np.any(self.projection)


def largest(sizes: Iterable[Size]) -> Size:
    """Return the largest height and the largest width."""
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)
