"""What a sheet shows, checked whole before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.colour import SCALES, Array, Scale
from deconvviz.figures.spec.validation import (
    check_columns,
    check_pair,
    check_percentile,
    is_whole,
    lines_of,
    true_colours,
)

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False, repr=False)
class Tile:
    """One unit: its patch and its projection at the same crop.

    `projection` is signed; `patch` is in true colours, 0 to 1, and may be missing on a sheet that shows
    projections only. `box` is (x0, y0, x1, y1) in the picture's pixels, half-open; `centre` is the middle of
    the receptive field, shown where the field covers the whole picture and a box would say nothing.
    `note` is written into the tile.
    """

    number: int
    caption: tuple[str, ...]
    projection: Array
    patch: Array | None = None
    box: Box | None = None
    centre: tuple[float, float] | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        what = f"tile {self.number}"
        if not is_whole(self.number) or self.number < 0:
            raise FigureError(f"tile number {self.number!r}: it must be a whole number from 0 on")
        object.__setattr__(self, "caption", lines_of(self.caption, f"{what}: caption"))
        if not any(line.strip() for line in self.caption):
            raise FigureError(f"{what} has no caption: say its layer, channel, position and activation")
        check_pair(self.projection, self.patch, what)
        if self.box is not None:
            _check_box(self.box, what)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the crop in pixels."""
        height, width = np.shape(self.projection)[:2]
        return height, width

    @property
    def zero(self) -> bool:
        return not np.any(self.projection)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Tile({self.number}: {' · '.join(self.caption)}; {width}x{height} px)"


@dataclass(frozen=True, eq=False, repr=False)
class Sheet:
    """The figure for one picture and one layer.

    `scale` says who shares a limit: the whole sheet, a row of the grid, or nobody. `percentile` below 100
    clips the largest values (see `colour.limit_of`); the figure says so. `columns` counts the tiles of a full
    row; None chooses. `units` names what the projection's numbers are.
    """

    title: tuple[str, ...]
    tiles: tuple[Tile, ...]
    picture: Array | None = None
    scale: Scale = "sheet"
    percentile: float = 100.0
    columns: int | None = None
    projection_only: bool = False
    footer: str = ""
    units: str = "network input units"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "tiles", tuple(self.tiles))
        if not self.tiles:
            raise FigureError("a sheet needs at least one tile: choose at least one unit")
        if self.scale not in SCALES:
            raise FigureError(f"no scale {self.scale!r}; there are {', '.join(SCALES)}")
        check_percentile(self.percentile)
        check_columns(self.columns)
        self._check_tiles()

    def _check_tiles(self) -> None:
        seen: set[int] = set()
        for tile in self.tiles:
            if tile.number in seen:
                raise FigureError(f"two tiles have the number {tile.number}: it must name one box and tile")
            seen.add(tile.number)
            if tile.patch is None and not self.projection_only:
                raise FigureError(f"tile {tile.number} has no patch: give one, or ask for projection_only")
        if self.picture is None:
            return
        height, width = true_colours(self.picture, "picture").shape[:2]
        for tile in self.tiles:
            if tile.box is not None and (tile.box[2] > width or tile.box[3] > height):
                raise FigureError(
                    f"tile {tile.number}: box {tile.box} reaches outside the picture of {width}x{height} px: "
                    "cut the receptive field to the picture"
                )

    @cached_property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) of the picture in pixels; (0, 0) without one."""
        if self.picture is None:
            return 0, 0
        height, width = np.shape(self.picture)[:2]
        return height, width

    @cached_property
    def largest_crop(self) -> tuple[int, int]:
        """(height, width) in pixels, each the largest of all tiles."""
        return max(tile.size[0] for tile in self.tiles), max(tile.size[1] for tile in self.tiles)

    def covers_picture(self, tile: Tile) -> bool:
        height, width = self.picture_size
        return tile.box == (0, 0, width, height)

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"Sheet({name!r}: {len(self.tiles)} tiles, scale {self.scale})"


def _check_box(box: Box, what: str) -> None:
    if len(box) != 4 or not all(is_whole(edge) for edge in box):
        raise FigureError(f"{what}: box {box!r} must be four whole numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    if x0 < 0 or y0 < 0 or x1 <= x0 or y1 <= y0:
        raise FigureError(f"{what}: box {box!r} (x0, y0, x1, y1, half-open) is empty or begins below 0")
