"""Several sheets below each other, one for each input of a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from deconvviz.errors import FigureError
from deconvviz.figures.spec.sheet import Sheet
from deconvviz.figures.spec.style import SheetStyle
from deconvviz.figures.spec.validation import lines_of


@dataclass(frozen=True, eq=False, repr=False)
class Row:
    """One input of a network: its name and picture, and the patch and the projection of each unit there."""

    name: str
    sheet: Sheet


@dataclass(frozen=True, eq=False, repr=False)
class Sheets:
    """Figure of the same units in several pictures, which are the inputs of one network.

    Titles and footers of the rows' sheets are not drawn. All rows have the style of the figure.
    """

    title: tuple[str, ...]
    rows: tuple[Row, ...]
    style: SheetStyle = field(default_factory=SheetStyle)
    footer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "rows", tuple(self.rows))
        if not self.rows:
            raise FigureError("a figure of several inputs needs at least one of them")
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise FigureError(f"two rows have one name: {', '.join(names)}. Names must be unique")

    def __repr__(self) -> str:
        return f"Sheets({self.title[0]!r}: {', '.join(row.name for row in self.rows)})"
