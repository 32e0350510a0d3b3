"""A tile of a grid with lines: the values of one or more channels of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, FloatArray, check_finite
from deconvviz.figures.spec.crop import Size
from deconvviz.figures.spec.validation import check_text, lines_of

MOST_POINTS = 240
"""Longer lines are drawn by the lowest and the highest value of equal parts."""
COLOUR_NAMES = ("orange", "blue", "green", "pink")
"""Colours of the first lines of a tile."""


@dataclass(frozen=True, eq=False, repr=False)
class LinesTile:
    """Values (C, n) of C channels as lines. The first value is that of the position `first`.

    `y_range` are the values at the bottom and the top of the tile. `field` is the receptive field
    (first, past), marked by thin lines where it begins and ends; None for no marks. `zero` draws a line at 0.
    """

    values: Array
    first: int
    y_range: tuple[float, float]
    field: tuple[int, int] | None = None
    zero: bool = False
    caption: tuple[str, ...] = ()
    note: str | None = None

    kind: ClassVar[str] = "lines"
    size: ClassVar[Size] = (11, 20)  # only the ratio matters: lines fill their frame

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", lines_of(self.caption, "tile: caption"))
        check_text(self.note, "tile: note")
        check_finite(self.values, "tile: lines")
        if np.ndim(self.values) != 2 or 0 in np.shape(self.values):
            raise FigureError(f"tile: lines have shape {np.shape(self.values)}: it must be (channels, n)")
        low, high = self.y_range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise FigureError(f"y range {self.y_range!r}: the lower limit must be below the upper limit")

    @property
    def plain(self) -> bool:
        """True if all values are zero."""
        return not np.any(self.values)

    def lines(self) -> list[FloatArray]:
        """Return the points (m, 2) of each line in a tile of width and height 1, from its bottom left."""
        count = self.values.shape[1]
        parts = np.array_split(np.arange(count), min(count, MOST_POINTS))
        low, high = self.y_range
        found = []
        for row in np.asarray(self.values, np.float64):
            x, y = np.arange(count), row
            if count > MOST_POINTS:
                x = np.repeat([part.mean() for part in parts], 2)
                y = np.array([edge for part in parts for edge in (row[part].min(), row[part].max())])
            found.append(np.stack([(x + 0.5) / count, (y - low) / (high - low)], axis=1))
        return found

    def marks(self) -> list[float]:
        """Return the places of the ends of the field that are inside the tile, from 0 to 1."""
        count = self.values.shape[1]
        places = [(end - self.first) / count for end in self.field or ()]
        return [place for place in places if 0 < place < 1]

    @property
    def zero_at(self) -> float | None:
        """Height of the line at 0, from 0 to 1; None if there is none."""
        low, high = self.y_range
        return -low / (high - low) if self.zero and low <= 0 <= high else None

    def __repr__(self) -> str:
        channels, count = np.shape(self.values)
        return f"LinesTile({' · '.join((*self.caption, f'{channels} x {count} values'))})"
