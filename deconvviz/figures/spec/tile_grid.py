"""A tile grid: rows and columns of projections, images or maps, with labels and shared colour scales.

Examples: a comparison of methods (a row for each unit, a column for each method), features during training
(a row for each channel, a column for each epoch), or an image and its occlusion maps.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import (
    Array,
    FloatArray,
    check_signed,
    check_true_colours,
    size_of,
    true_colours,
)
from deconvviz.figures.spec.colour import Limit, limits_of_groups, to_rgb
from deconvviz.figures.spec.crop import WHOLE, Cut, Size, largest
from deconvviz.figures.spec.heat import Interval, heat_rgb, interval_of, over_image
from deconvviz.figures.spec.lines_tile import LinesTile
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.validation import (
    Box,
    check_box,
    check_choice,
    check_inside,
    check_text,
    is_whole,
    lines_of,
)

KINDS = ("signed", "image", "map")
Place = tuple[int, int]
"""(row, column)"""


@dataclass(frozen=True)
class Mark:
    """Box drawn on a tile, in the tile's pixels. `number` selects its colour and is written next to it."""

    box: Box
    number: int | None = None

    def __post_init__(self) -> None:
        check_box(self.box, "mark")
        if self.number is not None and (not is_whole(self.number) or self.number < 0):
            raise FigureError(
                f"mark number {self.number!r}: it must be a whole number of at least 0, or None"
            )


@dataclass(frozen=True)
class LegendEntry:
    """A colour (``#rrggbb``) and what it means."""

    colour: str
    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"#[0-9a-f]{6}", self.colour):
            raise FigureError(f"legend colour {self.colour!r}: it must have the form #rrggbb")
        check_text(self.text, "legend text")


@dataclass(frozen=True, eq=False, repr=False)
class GridTile:
    """One tile of a grid. If `values` is None, the frame is empty and `note` says what is missing.

    `kind` is one of:

    - ``signed``: signed values such as a projection, (h, w) or (h, w, 3); grey is zero.
    - ``image``: colours from 0 to 1, (h, w) or (h, w, 3).
    - ``map``: one number for each position, (h, w).

    The signed tiles and images of a row share one zoom. A map fills its frame, so it can be coarser than the
    image next to it. `cut` are the sides on which the tile is cut at the image border.

    `under` is an image of the size of a map, over which the map is drawn; `drawn`, bool (h, w), are the
    pixels at which it is drawn. Elsewhere, the image is grey. `legend` explains colours below the tile.
    """

    values: Array | None
    kind: str = "signed"
    caption: tuple[str, ...] = ()
    note: str | None = None
    marks: tuple[Mark, ...] = ()
    cut: Cut = WHOLE
    under: Array | None = None
    drawn: Array | None = None
    legend: tuple[LegendEntry, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self.kind, KINDS, "kind of tile")
        object.__setattr__(self, "caption", lines_of(self.caption, "tile: caption"))
        object.__setattr__(self, "marks", tuple(self.marks))
        object.__setattr__(self, "legend", tuple(self.legend))
        check_text(self.note, "tile: note")
        if self.values is None:
            if not (self.note or "").strip():
                raise FigureError("a tile without values needs a note. Say what is missing")
            if self.marks:
                raise FigureError("a tile without values cannot have marks")
            return
        if self.kind == "image":
            check_true_colours(self.values, "tile: image")
        else:
            check_signed(self.values, f"tile: {self.kind}")
        if self.kind == "map" and np.ndim(self.values) == 3 and np.shape(self.values)[2] != 1:
            raise FigureError(f"tile: map has shape {np.shape(self.values)}: it must be (height, width)")
        for mark in self.marks:
            check_inside(mark.box, self.size, "mark", "tile")
        self._check_under()

    def _check_under(self) -> None:
        if self.under is None:
            if self.drawn is not None:
                raise FigureError("a map with hidden pixels needs the image under it")
            return
        if self.kind != "map":
            raise FigureError(f"a tile of kind {self.kind} cannot be drawn over an image: only maps can")
        check_true_colours(self.under, "tile: image under the map")
        for name, array in (("image", self.under), ("mask", self.drawn)):
            if array is not None and size_of(array) != self.size:
                raise FigureError(f"the {name} of a map has {size_of(array)} px, and the map {self.size}")

    @property
    def size(self) -> Size:
        """(height, width) in pixels; (1, 1) without values."""
        return (1, 1) if self.values is None else size_of(self.values)

    @property
    def plain(self) -> bool:
        """True if the tile has only one colour: it has no values, or all signed values are zero."""
        return self.values is None or (self.kind == "signed" and not np.any(self.values))

    def __repr__(self) -> str:
        height, width = self.size
        shown = "missing" if self.values is None else f"{self.kind}, {width}x{height} px"
        return f"GridTile({' · '.join((*self.caption, shown))})"


@dataclass(frozen=True, eq=False, repr=False)
class TileGrid:
    """Figure of rows of tiles. All rows have the same length; None leaves a position empty.

    `units` names the units of signed tiles, `map_name` the quantity that maps show. The colours of maps
    range from the lowest to the highest value, or over `map_interval` if it is given. A line break in a row
    label starts a new line.
    """

    title: tuple[str, ...]
    tiles: tuple[tuple[GridTile | LinesTile | None, ...], ...]
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    style: TileGridStyle = field(default_factory=TileGridStyle)
    footer: str = ""
    units: str = "network input units"
    map_name: str = ""
    map_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "tiles", tuple(tuple(row) for row in self.tiles))
        object.__setattr__(self, "row_labels", lines_of(self.row_labels, "row labels"))
        object.__setattr__(self, "column_labels", lines_of(self.column_labels, "column labels"))
        lengths = sorted({len(row) for row in self.tiles})
        if len(lengths) > 1:
            raise FigureError(
                f"rows of {lengths[0]} and of {lengths[-1]} tiles: all rows must have the same length. "
                "Use None for an empty position"
            )
        if not any(tile is not None for row in self.tiles for tile in row):
            raise FigureError("a tile grid needs at least one tile")
        _check_labels(self.row_labels, len(self.tiles), "row")
        _check_labels(self.column_labels, lengths[0], "column")
        if self.map_interval is not None:
            low, high = self.map_interval
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise FigureError(
                    f"map interval {self.map_interval!r}: the lower limit must be below the upper limit"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.tiles), len(self.tiles[0])

    @cached_property
    def limits(self) -> dict[Place, Limit]:
        """Limit of the colour scale of each signed tile, by its (row, column)."""
        arrays, places = self._of_kind("signed")
        groups = [self._group(place) for place in places]
        found = limits_of_groups(arrays, groups, percentile=self.style.percentile)
        return dict(zip(places, found, strict=True))

    @cached_property
    def intervals(self) -> dict[Place, Interval]:
        """Values of the first and the last colour of each map, by its (row, column)."""
        arrays, places = self._of_kind("map")
        if self.map_interval is not None:
            return dict.fromkeys(places, Interval(*self.map_interval))
        members: dict[Hashable, list[Array]] = {}
        for array, place in zip(arrays, places, strict=True):
            members.setdefault(self._group(place), []).append(array)
        shared = {group: interval_of(maps) for group, maps in members.items()}
        return {place: shared[self._group(place)] for place in places}

    def colours(self, place: Place) -> FloatArray | None:
        """Return the colours of a tile as a new (h, w, 3) array in [0, 1]; None if it has no colours."""
        tile = self.tiles[place[0]][place[1]]
        if tile is None or isinstance(tile, LinesTile) or tile.values is None:
            return None
        if tile.kind == "image":
            return true_colours(tile.values, "tile: image")
        if tile.kind == "map":
            heat = heat_rgb(tile.values, self.intervals[place])
            return heat if tile.under is None else over_image(heat, tile.under, tile.drawn)
        return to_rgb(tile.values, self.limits[place].value, what="tile: signed")

    def largest_in_row(self, row: int) -> Size:
        """Return the size that fills a frame of the row. Maps are ignored unless the row has nothing else."""
        shown = [tile for tile in self.tiles[row] if tile is not None and tile.values is not None]
        pixels = [tile.size for tile in shown if tile.kind != "map"]
        return largest(pixels or [tile.size for tile in shown] or [(1, 1)])

    def _of_kind(self, kind: str) -> tuple[list[Array], list[Place]]:
        found = [
            (tile.values, (row, column))
            for row, tiles in enumerate(self.tiles)
            for column, tile in enumerate(tiles)
            if isinstance(tile, GridTile) and tile.values is not None and tile.kind == kind
        ]
        return [values for values, _ in found], [place for _, place in found]

    def _group(self, place: Place) -> Hashable:
        row, column = place
        return {"grid": 0, "row": row, "column": column, "tile": place}[self.style.scale]

    def __repr__(self) -> str:
        rows, columns = self.shape
        name = self.title[0] if self.title else "no title"
        return f"TileGrid({name!r}: {rows}x{columns} tiles, scale {self.style.scale})"


def _check_labels(labels: tuple[str, ...], count: int, what: str) -> None:
    if labels and len(labels) != count:
        raise FigureError(f"{len(labels)} {what} labels for {count} {what}s. Give one for each, or none")
