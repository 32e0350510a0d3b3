"""Pictures whose pixels were decoded at a fraction of their size, as libjpeg can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from PIL import ImageFile

Corners: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
Reduction: TypeAlias = Callable[[tuple[int, int]], int]
"""Returns by how much an upright picture (width, height) may be reduced: 1, 2, 4 or 8."""

_SWAPS = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns
_MIRRORS_X = (2, 3, 6, 7)  # after that, those that reverse the columns, and those that reverse the rows
_MIRRORS_Y = (3, 4, 7, 8)


@dataclass(frozen=True)
class Reduced:
    """Where the whole picture lies in its reduced pixels.

    Attributes:
        by: 2, 4 or 8: each pixel stands for a square of that side.
        size: (width, height) of the whole picture.
        area: The whole picture (left, top, right, bottom) in reduced pixels. If a length is not divisible by
            `by`, the last pixel lies only partly inside.
    """

    by: int
    size: tuple[int, int]
    area: Corners

    @classmethod
    def of(cls, by: int, size: tuple[int, int]) -> Reduced:
        """Return the place of a picture that is not yet upright."""
        return cls(by, size, (0.0, 0.0, size[0] / by, size[1] / by))

    def turned(self, orientation: int) -> Reduced:
        """Return the place after the EXIF orientation was applied to the reduced pixels."""
        (width, height), (left, top, right, bottom) = self.size, self.area
        columns, rows = -(-width // self.by), -(-height // self.by)
        if orientation in _SWAPS:
            width, height, columns, rows = height, width, rows, columns
            left, top, right, bottom = top, left, bottom, right
        if orientation in _MIRRORS_X:
            left, right = columns - right, columns - left
        if orientation in _MIRRORS_Y:
            top, bottom = rows - bottom, rows - top
        return Reduced(self.by, (width, height), (left, top, right, bottom))

    def within(self, box: Corners) -> Corners:
        """Return a box of the whole picture in reduced pixels."""
        left, top = self.area[:2]
        x0, y0, x1, y1 = (edge / self.by for edge in box)
        return left + x0, top + y0, min(left + x1, self.area[2]), min(top + y1, self.area[3])


def decode_at(image: ImageFile.ImageFile, by: int) -> None:
    """Make Pillow decode a JPEG at 1/2, 1/4 or 1/8 of its size. Its pixels are not loaded yet."""
    image.draft(None, (image.width // by, image.height // by))


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the (width, height) of a picture after its EXIF orientation was applied."""
    return (size[1], size[0]) if orientation in _SWAPS else size
