"""Positions of the image, the frames, their crops and the captions of a sheet."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.figures.page.crops import place_crop
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.sizes import CAPTION_GAP
from deconvviz.figures.page.style import CAPTION, line_height
from deconvviz.figures.sheet.grid import Grid, choose_grid, choose_grid_within, widest_badge
from deconvviz.figures.spec.sheet import Sheet, Tile

_OTHER_ZOOM = 0.3  # a crop below this share of the largest belongs to another layer and has its own zoom


@dataclass(frozen=True)
class Cell:
    """Position of a tile: two frames that touch, and below them the number and the caption."""

    tile: Tile
    row: int
    patch: Rect | None
    projection: Rect
    number: Rect
    caption: tuple[str, ...]
    caption_at: tuple[float, float]


@dataclass(frozen=True)
class Body:
    """Positions of image and tiles, in inches from the top left corner (0, 0)."""

    width: float
    height: float
    image: Rect | None
    image_note: tuple[str, ...]
    cells: tuple[Cell, ...]


def arrange(sheet: Sheet, width: float | None, around: float) -> Body:
    """Return the body for a page of `width` inches; `around` is the height of title and footer."""
    return _body(sheet, choose_grid(sheet, width, around))


def arrange_within(sheet: Sheet, width: float, tallest: float) -> tuple[float, Body] | None:
    """Return the cost and the best body for a page of `width` inches, at most `tallest` inches high."""
    found = choose_grid_within(sheet, width, tallest)
    return None if found is None else (found[0], _body(sheet, found[1]))


def _body(sheet: Sheet, grid: Grid) -> Body:
    badge = widest_badge(sheet)
    cells = tuple(
        _cell(sheet, grid, tile, caption, place, badge)
        for tile, caption, place in zip(sheet.tiles, grid.captions, grid.places(), strict=False)
    )
    return Body(grid.width, grid.height, grid.image, grid.image_note, cells)


def _cell(
    sheet: Sheet, grid: Grid, tile: Tile, caption: tuple[str, ...], place: tuple[int, int], badge: float
) -> Cell:
    row, column = place
    first = Rect(grid.left + column * grid.pitch, grid.top + row * grid.row_height, *grid.frame)
    below = first.bottom + CAPTION_GAP
    return Cell(
        tile=tile,
        row=row,
        patch=None if sheet.style.projection_only else first,
        projection=first if sheet.style.projection_only else first.moved(first.w, 0),
        number=Rect(first.x, below, badge, line_height(CAPTION)),
        caption=caption,
        caption_at=(first.x + badge + 0.03, below),
    )


def crop_in(frame: Rect, tile: Tile, sheet: Sheet) -> Rect:
    """Return the rectangle of a crop in its frame. All tiles of a layer share one zoom."""
    (height, width), (down, across) = tile.size, sheet.largest_crop
    other = max(height / down, width / across) < _OTHER_ZOOM
    return place_crop(frame, tile.size, tile.size if other else sheet.largest_crop, sheet.cut_of(tile))


def shows_outside(sheet: Sheet) -> bool:
    """Return True if some receptive field is cut at the image border, so that it does not fill its frame."""
    if sheet.image is None:
        return False
    down, across = sheet.largest_crop
    frame = Rect(0, 0, across, down)
    return any(crop_in(frame, tile, sheet).area < 0.999 * frame.area for tile in sheet.tiles)
