"""Panels: rows of tile grids and curves in one figure, each with its own title."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from deconvviz.errors import FigureError
from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.style import PanelsStyle
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.figures.spec.validation import lines_of

Part: TypeAlias = "TileGrid | Curves"


@dataclass(frozen=True, eq=False, repr=False)
class Panels:
    """Figure of several parts in rows. The parts of a row are side by side.

    `shares` are the shares of the width of the parts of each row. If it is empty, shares are equal, and the
    tiles of a row of tile grids have the same size. The title of a part is drawn above it. The footers of all
    parts are joined below the figure.
    """

    title: tuple[str, ...]
    rows: tuple[tuple[Part, ...], ...]
    shares: tuple[tuple[float, ...], ...] = ()
    style: PanelsStyle = field(default_factory=PanelsStyle)
    footer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "rows", tuple(map(tuple, self.rows)))
        if not self.rows or not all(self.rows):
            raise FigureError("a figure of panels needs at least one part in each row")
        object.__setattr__(self, "shares", tuple(map(tuple, self.shares)))
        if self.shares and [len(of_row) for of_row in self.shares] != [len(row) for row in self.rows]:
            raise FigureError("a figure of panels needs one share of the width for each part, or none")
        if not all(share > 0 for of_row in self.shares for share in of_row):
            raise FigureError("shares of the width must be above 0")

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, row by row."""
        return tuple(part for row in self.rows for part in row)

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"Panels({name!r}: {len(self.parts)} parts in {len(self.rows)} rows)"
