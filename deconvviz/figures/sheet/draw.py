"""The sheet of one picture and one layer, as a matplotlib figure."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from deconvviz.figures.page.compose import Corner, compose, height_around
from deconvviz.figures.page.footer import Footer, signed_key
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.labels import place_labels
from deconvviz.figures.page.notes import paint_note
from deconvviz.figures.page.page import BADGE_HEIGHT, Line, Paper, badge_width
from deconvviz.figures.page.sizes import COLUMN, MARGIN
from deconvviz.figures.page.style import (
    CAPTION,
    INK,
    OUTSIDE,
    SMALL,
    SOFT_INK,
    colour,
    line_height,
    sheet_style,
)
from deconvviz.figures.page.text import clean, wrap_at_most
from deconvviz.figures.sheet.layout import Body, Cell, arrange, crop_in
from deconvviz.figures.sheet.scale_text import scale_line
from deconvviz.figures.spec.arrays import FloatArray, true_colours
from deconvviz.figures.spec.colour import Limit, limits, to_rgb
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.validation import check_width

_APART = 0.03  # a number that stands further than this from its box is led to it by a line


def draw_sheet(sheet: Sheet, *, width: float | None = None) -> Figure:
    """The figure, `width` inches wide; None chooses a width up to that of a page."""
    check_width(width)
    with sheet_style():
        body = arrange(sheet, width, around=height_around(sheet.title))
        rows = [cell.row for cell in body.cells]
        projections = [tile.projection for tile in sheet.tiles]
        scale = limits(projections, sheet.style.scale, rows, percentile=sheet.style.percentile)
        page_width = width if width is not None else max(body.width + 2 * MARGIN, COLUMN)
        key = signed_key(scale[0] if sheet.style.scale == "sheet" else None)
        footer = Footer([key], scale_line(sheet, scale), sheet.footer, page_width - 2 * MARGIN)

        def paint(paper: Paper, corner: Corner) -> None:
            _Painter(paper, sheet, corner).paint(body, scale)

        return compose(sheet.title, footer, (page_width, body.height), paint, below_title=0.07)


class _Painter:
    """Picture and tiles, put on the paper with their corner at `corner`."""

    def __init__(self, paper: Paper, sheet: Sheet, corner: Corner) -> None:
        self.paper = paper
        self.sheet = sheet
        self.corner = corner

    def paint(self, body: Body, scale: tuple[Limit, ...]) -> None:
        if body.picture is not None and self.sheet.picture is not None:
            place = body.picture.moved(*self.corner)
            self.paper.image(true_colours(self.sheet.picture, "picture"), place, "picture")
            self._boxes(place)
            note = [Line(line, SMALL, ink=SOFT_INK) for line in body.picture_note]
            self.paper.lines(note, place.x, place.bottom + 0.03, "picture-note")
        for cell, limit in zip(body.cells, scale, strict=True):
            self._cell(cell, limit)
        limit_of_row = {cell.row: limit for cell, limit in zip(body.cells, scale, strict=True)}
        for row, (x, y) in enumerate(body.row_marks):
            line = Line(str(limit_of_row[row]), SMALL, ink=SOFT_INK)
            self.paper.upright(line, x + self.corner[0], y + self.corner[1], f"row-{row}")

    def _boxes(self, place: Rect) -> None:
        marked = [(tile.number, mark) for tile in self.sheet.tiles if (mark := self._mark(tile, place))]
        for number, mark in marked:
            if mark.area:
                self.paper.outline(mark, colour(number), f"box-{number}")
            else:
                self.paper.dot(mark.x, mark.y, colour(number), f"centre-{number}")
        sizes = [(badge_width(number), BADGE_HEIGHT) for number, _ in marked]
        labels = place_labels([mark for _, mark in marked], sizes, place)
        for (number, mark), label in zip(marked, labels, strict=True):
            end = mark.nearest(*label.centre)
            if math.dist(label.nearest(*end), end) > _APART:
                self.paper.stroke(label.centre, end, colour(number), f"leader-{number}")
        for (number, _), label in zip(marked, labels, strict=True):
            self.paper.badge(number, label, colour(number), f"label-{number}")

    def _mark(self, tile: Tile, place: Rect) -> Rect | None:
        """The tile's box on the page; a point where only the field's centre says something; or nothing."""
        rows, columns = self.sheet.picture_size
        across, down = place.w / columns, place.h / rows
        if tile.box is not None and not self.sheet.covers_picture(tile):
            x0, y0, x1, y1 = tile.box
            return Rect(place.x + x0 * across, place.y + y0 * down, (x1 - x0) * across, (y1 - y0) * down)
        if tile.centre is None:
            return None
        x, y = min(max(tile.centre[0], 0), columns), min(max(tile.centre[1], 0), rows)
        return Rect(place.x + x * across, place.y + y * down, 0, 0)

    def _cell(self, cell: Cell, limit: Limit) -> None:
        tile = cell.tile
        if cell.patch is not None and tile.patch is not None:
            self._crop(true_colours(tile.patch, "patch"), cell.patch, tile, f"patch-{tile.number}")
        self._crop(to_rgb(tile.projection, limit.value), cell.projection, tile, f"projection-{tile.number}")
        if tile.note:
            self._note(tile.note, cell.projection.moved(*self.corner), tile)
        number = cell.number.moved(*self.corner)
        badge = number.fitted(number.w, BADGE_HEIGHT)
        self.paper.badge(tile.number, badge, colour(tile.number), f"number-{tile.number}")
        caption = [Line(line, CAPTION, ink=SOFT_INK if i else INK) for i, line in enumerate(cell.caption)]
        x, y = cell.caption_at
        self.paper.lines(caption, x + self.corner[0], y + self.corner[1], f"caption-{tile.number}")

    def _crop(self, colours: FloatArray, frame: Rect, tile: Tile, gid: str) -> None:
        frame = frame.moved(*self.corner)
        place = crop_in(frame, tile, self.sheet)
        if place.area < 0.999 * frame.area:
            self.paper.ground(frame, OUTSIDE)
        self.paper.image(colours, place, gid)

    def _note(self, note: str, frame: Rect, tile: Tile) -> None:
        most = max(int((frame.h - 0.04) / line_height(SMALL)), 1)
        lines = wrap_at_most(clean(note), frame.w - 0.06, SMALL, most)
        paint_note(self.paper, lines, frame, f"note-{tile.number}", middle=tile.zero, padding=0.02)
