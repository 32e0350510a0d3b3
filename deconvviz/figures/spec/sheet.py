"""A sheet: one image, one layer, and the patch and the projection of each unit."""

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
    """One unit: its patch and its projection, cropped to the same box.

    `projection` is signed. `patch` has colours from 0 to 1, and may be None on a sheet that shows projections
    only. `box` is the receptive field in image pixels. `crop_box` is the part of the image that patch and
    projection show; None if that is the receptive field. `centre` is the centre of the receptive field; it
    is marked by a dot if the box would be the border of the image. `note` is written into the tile.
    """

    number: int
    caption: tuple[str, ...]
    projection: Array
    patch: Array | None = None
    box: Box | None = None
    centre: tuple[float, float] | None = None
    note: str | None = None
    crop_box: Box | None = None

    def __post_init__(self) -> None:
        what = f"tile {self.number}"
        if not is_whole(self.number) or self.number < 0:
            raise FigureError(f"tile number {self.number!r}: it must be a whole number of at least 0")
        object.__setattr__(self, "caption", lines_of(self.caption, f"{what}: caption"))
        if not any(line.strip() for line in self.caption):
            raise FigureError(f"{what} has no caption. Give its layer, channel, position and activation")
        check_pair(self.projection, self.patch, what)
        for box in (self.box, self.crop_box):
            if box is not None:
                check_box(box, what)

    @property
    def shown_box(self) -> Box | None:
        """Part of the image that patch and projection show."""
        return self.box if self.crop_box is None else self.crop_box

    def __repr__(self) -> str:
        height, width = self.size
        return f"Tile({self.number}: {' · '.join(self.caption)}; {width}x{height} px)"


@dataclass(frozen=True, eq=False, repr=False)
class Sheet:
    """Figure of one image and one layer.

    `field_name` says what the boxes of the tiles are. `units` names the units of the projections' values.
    `crop_text` is the part of the caption that says how patches and projections are cropped.
    """

    title: tuple[str, ...]
    tiles: tuple[Tile, ...]
    image: Array | None = None
    style: SheetStyle = field(default_factory=SheetStyle)
    footer: str = ""
    units: str = "network input units"
    crop_text: str = ""
    field_name: str = "receptive field"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "tiles", tuple(self.tiles))
        if not self.tiles:
            raise FigureError("a sheet needs at least one tile. Choose at least one unit")
        self._check_tiles()

    def _check_tiles(self) -> None:
        seen: set[int] = set()
        for tile in self.tiles:
            if tile.number in seen:
                raise FigureError(f"two tiles have the number {tile.number}: numbers must be unique")
            seen.add(tile.number)
            if tile.patch is None and not self.style.projection_only:
                raise FigureError(f"tile {tile.number} has no patch. Give one, or set projection_only")
        if self.image is None:
            return
        check_true_colours(self.image, "image")
        for tile in self.tiles:
            for box in (tile.box, tile.crop_box):
                if box is not None:
                    check_inside(box, self.image_size, f"tile {tile.number}", "image")

    @cached_property
    def image_size(self) -> Size:
        """(height, width) of the image in pixels; (0, 0) without an image."""
        return (0, 0) if self.image is None else size_of(self.image)

    @cached_property
    def largest_crop(self) -> Size:
        """Largest height and largest width of all tiles, in pixels."""
        return largest(tile.size for tile in self.tiles)

    @cached_property
    def image_box(self) -> Box:
        """Box of the whole image: (0, 0, width, height)."""
        height, width = self.image_size
        return 0, 0, width, height

    def field_covers_image(self, tile: Tile) -> bool:
        """Return True if the receptive field is the whole image."""
        return self.image is not None and tile.box == self.image_box

    def outlined(self, tile: Tile) -> Box | None:
        """Return the box that the tile shows, or None if that is the whole image."""
        return None if tile.shown_box == self.image_box else tile.shown_box

    def dashed(self, tile: Tile) -> Box | None:
        """Return the receptive field if it has its own dashed box, else None.

        It has one if it differs from the box that the tile shows and is not the whole image.
        """
        if self.outlined(tile) is None or self.field_covers_image(tile) or tile.box == tile.crop_box:
            return None
        return None if tile.crop_box is None else tile.box

    def cut_of(self, tile: Tile) -> Cut:
        """Return the sides on which the tile is cut at the image border."""
        if tile.box is None or self.image is None or tile.crop_box is not None:
            return WHOLE
        (x0, y0, x1, y1), (height, width) = tile.box, self.image_size
        return Cut(x0 == 0, y0 == 0, x1 == width, y1 == height)

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"Sheet({name!r}: {len(self.tiles)} tiles, scale {self.style.scale})"
