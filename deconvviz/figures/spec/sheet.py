"""A sheet: one image, one layer, and for each unit its patch next to its projection."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, check_pair, check_true_colours, size_of
from deconvviz.figures.spec.crop import WHOLE, Cut, Projected, Size, largest
from deconvviz.figures.spec.style import SheetStyle
from deconvviz.figures.spec.validation import Box, check_box, check_inside, is_whole, lines_of


@dataclass(frozen=True, eq=False, repr=False)
class Tile(Projected):
    """One unit: its patch and its projection at the same crop.

    `projection` is signed; `patch` is in true colours, 0 to 1, and may be missing on a sheet that shows
    projections only. `box` is in the picture's pixels; `centre` is the middle of the receptive field, shown
    where the field covers the whole picture and a box would say nothing. `note` is written into the tile.
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
            check_box(self.box, what)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Tile({self.number}: {' · '.join(self.caption)}; {width}x{height} px)"


@dataclass(frozen=True, eq=False, repr=False)
class Sheet:
    """The figure for one picture and one layer. `units` names what the projection's numbers are."""

    title: tuple[str, ...]
    tiles: tuple[Tile, ...]
    picture: Array | None = None
    style: SheetStyle = field(default_factory=SheetStyle)
    footer: str = ""
    units: str = "network input units"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "tiles", tuple(self.tiles))
        if not self.tiles:
            raise FigureError("a sheet needs at least one tile: choose at least one unit")
        self._check_tiles()

    def _check_tiles(self) -> None:
        seen: set[int] = set()
        for tile in self.tiles:
            if tile.number in seen:
                raise FigureError(f"two tiles have the number {tile.number}: it must name one box and tile")
            seen.add(tile.number)
            if tile.patch is None and not self.style.projection_only:
                raise FigureError(f"tile {tile.number} has no patch: give one, or ask for projection_only")
        if self.picture is None:
            return
        check_true_colours(self.picture, "picture")
        for tile in self.tiles:
            if tile.box is not None:
                check_inside(tile.box, self.picture_size, f"tile {tile.number}", "picture")

    @cached_property
    def picture_size(self) -> Size:
        """(height, width) of the picture in pixels; (0, 0) without one."""
        return (0, 0) if self.picture is None else size_of(self.picture)

    @cached_property
    def largest_crop(self) -> Size:
        return largest(tile.size for tile in self.tiles)

    def covers_picture(self, tile: Tile) -> bool:
        height, width = self.picture_size
        return tile.box == (0, 0, width, height)

    def cut_of(self, tile: Tile) -> Cut:
        """On which sides a tile's box meets the picture's border."""
        if tile.box is None or self.picture is None:
            return WHOLE
        (x0, y0, x1, y1), (height, width) = tile.box, self.picture_size
        return Cut(x0 == 0, y0 == 0, x1 == width, y1 == height)

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"Sheet({name!r}: {len(self.tiles)} tiles, scale {self.style.scale})"
