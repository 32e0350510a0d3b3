"""Where the picture, the frames, the crops in them and the captions stand."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.figures.page.crops import place_crop
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.sizes import CAPTION_GAP
from deconvviz.figures.page.style import CAPTION, line_height
from deconvviz.figures.sheet.grid import ROW_MARK, Grid, choose_grid, widest_badge
from deconvviz.figures.spec.sheet import Sheet, Tile

_OTHER_ZOOM = 0.3  # a crop below this share of the largest is of another layer, not cut by the border


@dataclass(frozen=True)
class Cell:
    """A tile's place: its frames touch, the caption stands below, beside the number."""

    tile: Tile
    row: int
    patch: Rect | None
    projection: Rect
    number: Rect
    caption: tuple[str, ...]
    caption_at: tuple[float, float]


@dataclass(frozen=True)
class Body:
    """Picture and tiles, from the corner (0, 0)."""

    width: float
    height: float
    picture: Rect | None
    picture_note: tuple[str, ...]
    cells: tuple[Cell, ...]
    row_marks: tuple[tuple[float, float], ...]


def arrange(sheet: Sheet, width: float | None, around: float) -> Body:
    """The body for a page of `width` inches; `around` is the height of title and footer."""
    grid = choose_grid(sheet, width, around)
    badge = widest_badge(sheet)
    cells = tuple(
        _cell(sheet, grid, tile, caption, place, badge)
        for tile, caption, place in zip(sheet.tiles, grid.captions, grid.places(), strict=False)
    )
    marks = tuple(
        (grid.width - ROW_MARK + 0.03, grid.top + row * grid.row_height + grid.frame[1] / 2)
        for row in (range(grid.rows) if sheet.style.scale == "row" else ())
    )
    return Body(grid.width, grid.height, grid.picture, grid.picture_note, cells, marks)


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
    """Where a crop is drawn in its frame: one zoom for all tiles but those of another layer."""
    (height, width), (down, across) = tile.size, sheet.largest_crop
    other = max(height / down, width / across) < _OTHER_ZOOM
    return place_crop(frame, tile.size, tile.size if other else sheet.largest_crop, sheet.cut_of(tile))


def shows_outside(sheet: Sheet) -> bool:
    """Whether some field is cut by the picture's border, so that its frame is not full."""
    if sheet.picture is None:
        return False
    down, across = sheet.largest_crop
    frame = Rect(0, 0, across, down)
    return any(crop_in(frame, tile, sheet).area < 0.999 * frame.area for tile in sheet.tiles)
