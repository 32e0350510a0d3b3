"""What the tiles of a sheet and the crops of a top-nine figure have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from deconvviz.figures.spec.arrays import Array, size_of

Size = tuple[int, int]
"""(height, width) in pixels."""


class Cut(NamedTuple):
    """The sides on which the image's border cut a receptive field."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False


WHOLE = Cut()


class Projected:
    """A projection, and perhaps the patch cut at the same box."""

    projection: Array

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return size_of(self.projection)

    @property
    def zero(self) -> bool:
        return not np.any(self.projection)


def largest(sizes: Iterable[Size]) -> Size:
    """(height, width), each the largest of all."""
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)
