"""The sheet of one picture and one layer, as a matplotlib figure."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from deconvviz.figures.page.footer import Foot, key_ends, scale_line
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import BADGE_HEIGHT, Line, Paper
from deconvviz.figures.page.style import (
    CAPTION,
    INK,
    OUTSIDE,
    PAPER,
    SMALL,
    SOFT_INK,
    TITLE,
    colour,
    line_height,
    sheet_style,
)
from deconvviz.figures.page.text import clean, elide, wrap
from deconvviz.figures.page.title import title_lines
from deconvviz.figures.sheet.grid import MARGIN, badge_width
from deconvviz.figures.sheet.labels import place_labels
from deconvviz.figures.sheet.layout import Body, Cell, arrange, crop_in
from deconvviz.figures.spec.colour import FloatArray, Limit, limits, to_rgb
from deconvviz.figures.spec.sheet import Box, Sheet, Tile
from deconvviz.figures.spec.validation import check_width, true_colours

__all__ = ["Box", "Sheet", "Tile", "draw"]

_NARROWEST = 3.45  # inches, one column of a paper: a sheet that chooses its width is never narrower
_BELOW_TITLE, _ABOVE_FOOT = 0.07, 0.1
_APART = 0.03  # a number that stands further than this from its box is led to it by a line


def draw(sheet: Sheet, *, width: float | None = None) -> Figure:
    """The figure, `width` inches wide; without a width as wide as a page of a paper, or as little needs.

    The user's own matplotlib settings have no part in it and stay as they are.
    """
    check_width(width)
    with sheet_style():
        body = arrange(sheet, width, around=0.6 + len(sheet.title) * line_height(TITLE))
        rows = [cell.row for cell in body.cells]
        scale = limits(
            [tile.projection for tile in sheet.tiles], sheet.scale, rows, percentile=sheet.percentile
        )
        page_width = width if width is not None else max(body.width + 2 * MARGIN, _NARROWEST)
        room = page_width - 2 * MARGIN
        title = title_lines(sheet.title, room)
        foot = Foot(key_ends(sheet, scale), scale_line(sheet, scale), sheet.footer, room)
        top = MARGIN + sum(line.height for line in title) + (_BELOW_TITLE if title else 0)
        below = top + body.height + _ABOVE_FOOT

        paper = Paper(page_width, below + foot.height + MARGIN, " – ".join(map(clean, sheet.title)))
        paper.lines(title, MARGIN, MARGIN, "title")
        _Painter(paper, sheet, MARGIN, top).paint(body, scale)
        foot.paint(paper, MARGIN, below)
        return paper.figure


class _Painter:
    """Picture and tiles, put on the paper with their corner at (left, top)."""

    def __init__(self, paper: Paper, sheet: Sheet, left: float, top: float) -> None:
        self.paper = paper
        self.sheet = sheet
        self.corner = (left, top)

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
        """In the middle of a zero projection's grey; at the foot of any other, on a light ground."""
        room, step = frame.w - 0.06, line_height(SMALL)
        most = max(int((frame.h - 0.04) / step), 1)
        lines = list(wrap(clean(note), room, SMALL))
        if len(lines) > most:
            lines = [*lines[: most - 1], elide(" ".join(lines[most - 1 :]), room, SMALL)]
        height = len(lines) * step
        y = frame.centre[1] - height / 2 if tile.zero else frame.bottom - height - 0.02
        if not tile.zero:
            self.paper.ground(Rect(frame.x, y - 0.01, frame.w, height + 0.03), PAPER, over=True)
        for index, line in enumerate(lines):
            middle = y + (index + 0.5) * step
            self.paper.centred(
                Line(line, SMALL, ink="black"), frame.centre[0], middle, f"note-{tile.number}-{index}"
            )
