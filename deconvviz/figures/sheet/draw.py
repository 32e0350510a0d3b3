"""Draw a sheet, the figure of one image and one layer, with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure

from deconvviz.figures.page.compose import Corner, compose, height_around
from deconvviz.figures.page.footer import Footer, signed_key
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.labels import place_labels
from deconvviz.figures.page.medium import Fit, Page, draw_slide, page_width_for
from deconvviz.figures.page.notes import paint_note
from deconvviz.figures.page.page import BADGE_HEIGHT, Line, Paper, badge_width, set_colour_scale
from deconvviz.figures.page.sizes import COLUMN, MARGIN
from deconvviz.figures.page.style import (
    CAPTION,
    INK,
    OUTSIDE,
    SMALL,
    SOFT_INK,
    line_height,
    mark_of,
    sheet_style,
)
from deconvviz.figures.page.text import clean, wrap_at_most
from deconvviz.figures.sheet.layout import Body, Cell, arrange, arrange_within, crop_in
from deconvviz.figures.sheet.scale_text import scale_line
from deconvviz.figures.spec.arrays import FloatArray, true_colours
from deconvviz.figures.spec.colour import Limit, limits, to_rgb
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.validation import check_width

_BELOW_TITLE = 0.07
_APART = 0.03  # inches; a number farther from its box than this is connected to it by a line


def draw_sheet(sheet: Sheet, *, width: float | None = None) -> Figure:
    """Draw a sheet, `width` inches wide; None chooses a width of at most one page."""
    check_width(width)
    with sheet_style():
        if sheet.style.medium == "slide":
            return draw_slide(width, lambda page: _fit(sheet, page))
        page_width = page_width_for(sheet.style.medium, width)
        body = arrange(sheet, page_width, around=height_around(sheet.title))
        page = Page(max(body.width + 2 * MARGIN, COLUMN) if page_width is None else page_width)
        return _draw(sheet, body, page)


def _fit(sheet: Sheet, page: Page) -> Fit | None:
    """Return the best layout for a page of fixed height, or None if the sheet does not fit."""
    # Clipping is not known yet, so room is reserved for the longest caption.
    footer = _footer(sheet, [Limit(1.0, sheet.style.percentile, 1.0)], page.width)
    found = arrange_within(sheet, page.width, page.body_room(sheet.title, footer.height, _BELOW_TITLE))
    if found is None:
        return None
    cost, body = found
    return Fit(cost, partial(_draw, sheet, body, page))


def _draw(sheet: Sheet, body: Body, page: Page) -> Figure:
    rows = [cell.row for cell in body.cells]
    projections = [tile.projection for tile in sheet.tiles]
    scale = limits(projections, sheet.style.scale, rows, percentile=sheet.style.percentile)
    footer = _footer(sheet, scale, page.width)

    def paint(paper: Paper, corner: Corner) -> None:
        Painter(paper, sheet, corner).paint(body, scale)

    size = (body.width, body.height)
    figure = compose(sheet.title, footer, size, paint, page, below_title=_BELOW_TITLE)
    groups = {"sheet": [0] * len(rows), "row": rows, "tile": list(range(len(rows)))}[sheet.style.scale]
    set_colour_scale(figure, sheet.units, list(dict(zip(groups, scale, strict=True)).values()))
    return figure


def _footer(sheet: Sheet, scale: Sequence[Limit], width: float) -> Footer:
    return Footer([signed_key()], scale_line(sheet, scale), sheet.footer, width - 2 * MARGIN)


class Painter:
    """Draws the image and the tiles with their top left corner at `corner`."""

    def __init__(self, paper: Paper, sheet: Sheet, corner: Corner) -> None:
        self.paper = paper
        self.sheet = sheet
        self.corner = corner

    def paint(self, body: Body, scale: tuple[Limit, ...]) -> None:
        if body.image is not None and self.sheet.image is not None:
            place = body.image.moved(*self.corner)
            self.paper.image(true_colours(self.sheet.image, "image"), place, "image")
            self._boxes(place)
            note = [Line(line, SMALL, ink=SOFT_INK) for line in body.image_note]
            self.paper.lines(note, place.x, place.bottom + 0.03, "image-note")
        for cell, limit in zip(body.cells, scale, strict=True):
            self._cell(cell, limit)

    def _boxes(self, place: Rect) -> None:
        for tile in self.sheet.tiles:
            if (field := self.sheet.dashed(tile)) is not None:
                self.paper.dashes(self._on_page(field, place), mark_of(tile.number), f"field-{tile.number}")
        marked = [(tile.number, mark) for tile in self.sheet.tiles if (mark := self._mark(tile, place))]
        for number, mark in marked:
            if mark.area:
                self.paper.outline(mark, mark_of(number), f"box-{number}")
            else:
                self.paper.dot(mark.x, mark.y, mark_of(number), f"centre-{number}")
        sizes = [(badge_width(number), BADGE_HEIGHT) for number, _ in marked]
        labels = place_labels([mark for _, mark in marked], sizes, place)
        for (number, mark), label in zip(marked, labels, strict=True):
            end = mark.nearest(*label.centre)
            if math.dist(label.nearest(*end), end) > _APART:
                self.paper.stroke(label.centre, end, mark_of(number), f"leader-{number}")
        for (number, _), label in zip(marked, labels, strict=True):
            self.paper.badge(number, label, f"label-{number}")

    def _mark(self, tile: Tile, place: Rect) -> Rect | None:
        """Return the rectangle of the tile's box on the page, without area for a dot, or None for no mark.

        A dot marks the centre of a receptive field that covers the whole image.
        """
        if (box := self.sheet.outlined(tile)) is not None:
            return self._on_page(box, place)
        if tile.centre is None:
            return None
        rows, columns = self.sheet.image_size
        x, y = min(max(tile.centre[0], 0), columns), min(max(tile.centre[1], 0), rows)
        return self._on_page((x, y, x, y), place)

    def _on_page(self, box: tuple[float, float, float, float], place: Rect) -> Rect:
        """Convert a box in image pixels to a rectangle on the page; `place` is the rectangle of the image."""
        rows, columns = self.sheet.image_size
        across, down = place.w / columns, place.h / rows
        x0, y0, x1, y1 = box
        return Rect(place.x + x0 * across, place.y + y0 * down, (x1 - x0) * across, (y1 - y0) * down)

    def _cell(self, cell: Cell, limit: Limit) -> None:
        tile = cell.tile
        if cell.patch is not None and tile.patch is not None:
            self._crop(true_colours(tile.patch, "patch"), cell.patch, tile, f"patch-{tile.number}")
        self._crop(to_rgb(tile.projection, limit.value), cell.projection, tile, f"projection-{tile.number}")
        if tile.note:
            self._note(tile.note, cell.projection.moved(*self.corner), tile)
        number = cell.number.moved(*self.corner)
        badge = number.fitted(number.w, BADGE_HEIGHT)
        self.paper.badge(tile.number, badge, f"number-{tile.number}")
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
