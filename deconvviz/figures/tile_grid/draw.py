"""Draw a tile grid with matplotlib."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvviz.errors import FigureError
from deconvviz.figures.page.compose import BELOW_TITLE, Corner, compose, height_around
from deconvviz.figures.page.crops import place_crop
from deconvviz.figures.page.footer import Footer, Key, signed_key
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.labels import place_labels
from deconvviz.figures.page.medium import Fit, Page, draw_slide, page_width_for
from deconvviz.figures.page.notes import Notes, paint_note
from deconvviz.figures.page.page import BADGE_HEIGHT, Line, Paper, badge_width, set_colour_scale
from deconvviz.figures.page.scale_text import clipping_text
from deconvviz.figures.page.sizes import MARGIN
from deconvviz.figures.page.style import CAPTION, COLOURS, INK, OUTSIDE, SMALL, SOFT_INK, mark_of, sheet_style
from deconvviz.figures.page.text import clean
from deconvviz.figures.spec.arrays import FloatArray
from deconvviz.figures.spec.crop import Size
from deconvviz.figures.spec.heat import Interval, heat_rgb
from deconvviz.figures.spec.lines_tile import LinesTile
from deconvviz.figures.spec.tile_grid import GridTile, Place, TileGrid
from deconvviz.figures.spec.validation import check_width
from deconvviz.figures.tile_grid.layout import GridBody, arrange_grid, is_cut, shows_outside

_GROUND = "#f4f4f4"  # of lines
_WHERE = {"row": "to the right of each row", "column": "below each column", "tile": "below each tile"}


def draw_tile_grid(grid: TileGrid, *, width: float | None = None) -> Figure:
    """Draw a tile grid, `width` inches wide; None chooses a width of at most one page."""
    check_width(width)
    with sheet_style():
        if grid.style.medium == "slide":
            return draw_slide(width, lambda page: _fit(grid, page))
        body = _arranged(grid, width)
        notes = notes_of(grid, body)
        return _draw(grid, body, notes, _footer(grid, notes, body.page), Page(body.page))


def paint_tile_grid(paper: Paper, grid: TileGrid, body: GridBody, corner: Corner) -> None:
    """Draw an arranged grid on a page, with the top left of its body at `corner`."""
    _Painter(paper, grid, notes_of(grid, body), corner).paint(body)


def _arranged(grid: TileGrid, width: float | None) -> GridBody:
    """Return the layout for a screen or paper. On paper, tiles that do not fit one column use two."""
    around = height_around(grid.title)
    try:
        return arrange_grid(grid, page_width_for(grid.style.medium, width), around)
    except FigureError:
        if width is not None:
            raise
        return arrange_grid(grid, None, around)


def _fit(grid: TileGrid, page: Page) -> Fit | None:
    """Return the layout for a page of fixed height, or None if the grid does not fit."""
    room = page.body_room(grid.title, _footer(grid, None, page.width).height, BELOW_TITLE)
    try:
        body = arrange_grid(grid, page.width, around=0, tallest=room)
    except FigureError:
        return None
    notes = notes_of(grid, body)
    footer = _footer(grid, notes, page.width)
    if body.height > page.body_room(grid.title, footer.height, BELOW_TITLE):
        return None
    cost = -math.log(body.tile_width / page.width)
    return Fit(cost, partial(_draw, grid, body, notes, footer, page))


def notes_of(grid: TileGrid, body: GridBody) -> Notes:
    """Return the notes of the tiles with their frames."""
    return Notes(
        (tile.note, body.frames[row, column])
        for row, tiles in enumerate(grid.tiles)
        for column, tile in enumerate(tiles)
        if tile is not None
    )


def _footer(grid: TileGrid, notes: Notes | None, width: float) -> Footer:
    legend = "" if notes is None else notes.legend
    text = " · ".join(filter(None, [*scale_text_of(grid), legend]))
    return Footer(keys_of(grid), text, grid.footer, width - 2 * MARGIN)


def _draw(grid: TileGrid, body: GridBody, notes: Notes, footer: Footer, page: Page) -> Figure:
    def paint(paper: Paper, corner: Corner) -> None:
        _Painter(paper, grid, notes, corner).paint(body)

    figure = compose(grid.title, footer, (body.width, body.height), paint, page)
    if grid.limits:
        set_colour_scale(figure, grid.units, list(grid.limits.values()))
    return figure


class _Painter:
    def __init__(self, paper: Paper, grid: TileGrid, notes: Notes, corner: Corner) -> None:
        self.paper, self.grid, self.notes, self.corner = paper, grid, notes, corner

    def paint(self, body: GridBody) -> None:
        for (row, column), frame in body.frames.items():
            tile = self.grid.tiles[row][column]
            if isinstance(tile, LinesTile):
                self._lines(tile, f"{row}-{column}", frame.moved(*self.corner))
            elif tile is not None:
                self._tile(tile, (row, column), frame.moved(*self.corner))
        for swatch in body.swatches:
            self.paper.ground(swatch.square.moved(*self.corner), swatch.colour)
        for text in body.texts:
            size, ink = (SMALL, SOFT_INK) if text.soft else (CAPTION, INK)
            lines = [Line(line, size, ink=ink) for line in text.lines]
            x, y = text.x + self.corner[0], text.y + self.corner[1]
            if text.upright:
                self.paper.upright(lines[0], x, y, f"{text.gid}-0")
            else:
                self.paper.lines(lines, x, y, text.gid)

    def _tile(self, tile: GridTile, place: Place, frame: Rect) -> None:
        name = f"{place[0]}-{place[1]}"
        colours = self.grid.colours(place)
        if colours is None:
            self.paper.ground(frame, OUTSIDE)
        else:
            if is_cut(tile, self.grid, place[0]):
                self.paper.ground(frame, OUTSIDE)
            image = place_crop(frame, tile.size, self._fills(tile, place[0]), tile.cut)
            self.paper.image(np.rint(colours * 255).astype(np.uint8), image, f"tile-{name}")
            self._marks(tile, image, name)
        paint_note(self.paper, self.notes.lines(tile.note), frame, f"note-{name}", middle=tile.plain)

    def _lines(self, tile: LinesTile, name: str, frame: Rect) -> None:
        self.paper.ground(frame, _GROUND)
        soft = {"color": SOFT_INK, "linewidth": 0.4}
        for index, place in enumerate(tile.marks()):
            ends = np.array([(place, 0.0), (place, 1.0)])
            self._line(ends, frame, f"mark-{name}-{index}", linestyle=(0, (3, 2)), zorder=1.5, **soft)
        if tile.zero_at is not None:
            ends = np.array([(0.0, tile.zero_at), (1.0, tile.zero_at)])
            self._line(ends, frame, f"zero-{name}", zorder=1.5, **soft)
        for number, points in enumerate(tile.lines()):
            look = {"color": COLOURS[number % len(COLOURS)], "linewidth": 0.7, "zorder": 3}
            if len(points) == 1:
                look |= {"marker": "o", "markersize": 2.0}
            self._line(points, frame, f"tile-{name}-{number}", **look)
        paint_note(self.paper, self.notes.lines(tile.note), frame, f"note-{name}", middle=tile.plain)

    def _line(self, points: FloatArray, frame: Rect, gid: str, **look: Any) -> None:
        """Draw a line of a tile through points from its bottom left (0, 0) to its top right (1, 1)."""
        x, y = frame.x + points[:, 0] * frame.w, frame.bottom - points[:, 1] * frame.h
        self.paper.polyline(np.stack([x, y], axis=1), frame, gid, **look)

    def _fills(self, tile: GridTile, row: int) -> Size:
        """Return the size in pixels that fills the frame of a tile."""
        return tile.size if tile.kind == "map" else self.grid.largest_in_row(row)

    def _marks(self, tile: GridTile, image: Rect, name: str) -> None:
        height, width = tile.size
        across, down = image.w / width, image.h / height
        boxes = []
        for index, mark in enumerate(tile.marks):
            x0, y0, x1, y1 = mark.box
            box = Rect(image.x + x0 * across, image.y + y0 * down, (x1 - x0) * across, (y1 - y0) * down)
            look = mark_of(1 if mark.number is None else mark.number)
            self.paper.outline(box, look, f"mark-{name}-{index}")
            boxes.append(box)
        numbered = [(mark.number, box) for mark, box in zip(tile.marks, boxes, strict=True)
                    if mark.number is not None]  # fmt: skip
        sizes = [(badge_width(number), BADGE_HEIGHT) for number, _ in numbered]
        labels = place_labels([box for _, box in numbered], sizes, image)
        for (number, _), label in zip(numbered, labels, strict=True):
            self.paper.badge(number, label, f"label-{name}-{number}")


def keys_of(grid: TileGrid) -> list[Key]:
    """Return the colour bars of a grid."""
    keys = []
    if grid.limits:
        keys.append(signed_key())
    if grid.intervals:
        interval = next(iter(grid.intervals.values()))
        ends = (
            (f"{interval.low:.3g}", f"{interval.high:.3g}") if _one_interval(grid) else ("lowest", "highest")
        )
        ramp = heat_rgb(np.linspace(0, 1, 65)[None], Interval(0, 1))
        keys.append(Key(*ends, ramp, gid="map-key"))
    return keys


def _one_interval(grid: TileGrid) -> bool:
    return grid.style.scale == "grid" or grid.map_interval is not None


def scale_text_of(grid: TileGrid) -> list[str]:
    """Return the texts about the colours: their meaning, which tiles share a scale, and clipping."""
    parts = []
    if grid.limits:
        parts += _signed_text(grid)
    if grid.intervals:
        name = clean(grid.map_name) or "maps"
        said = _one_interval(grid) or not grid.style.limits
        where = "" if said else f" (ranges {_WHERE[grid.style.scale]})"
        parts.append(f"{name}: blue is low, yellow is high{where}")
    if shows_outside(grid):
        parts.append("light grey: outside the image")
    return parts


def _signed_text(grid: TileGrid) -> list[str]:
    limits = list(grid.limits.values())
    if not any(limit.value for limit in limits):
        return ["all signed tiles are zero"]
    scale = grid.style.scale
    units = f" {clean(grid.units)}" if grid.units else ""
    if scale != "grid" and not grid.style.limits:
        parts = [f"each {scale} has its own colour scale; grey is zero"]
    elif scale == "grid":
        parts = ["one colour scale for all tiles; grey is zero"]
    else:
        parts = [f"each {scale} has its own colour scale; grey is zero (limits{units} {_WHERE[scale]})"]
    return [*parts, *clipping_text(grid.style.percentile, limits)]
