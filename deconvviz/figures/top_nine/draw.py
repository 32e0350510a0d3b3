"""Draw a top-nine figure, as Figure 2 of the paper, with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from deconvviz.figures.page.compose import BELOW_TITLE, Corner, compose, height_around
from deconvviz.figures.page.crops import place_crop
from deconvviz.figures.page.footer import Footer, signed_key
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.medium import Fit, Page, draw_slide, page_width_for
from deconvviz.figures.page.notes import Notes, paint_note
from deconvviz.figures.page.page import Paper, set_colour_scale
from deconvviz.figures.page.scale_text import clipping_text
from deconvviz.figures.page.sizes import MARGIN
from deconvviz.figures.page.style import OUTSIDE, sheet_style
from deconvviz.figures.page.text import clean
from deconvviz.figures.spec.arrays import Array, FloatArray, true_colours
from deconvviz.figures.spec.colour import Limit, to_rgb
from deconvviz.figures.spec.crop import Size
from deconvviz.figures.spec.top_nine import Crop, TopNineFigure
from deconvviz.figures.spec.validation import check_width
from deconvviz.figures.top_nine.layout import (
    Caption,
    PlacedLayer,
    TopNineBody,
    arrange_top_nine,
    bodies_of_width,
    frames_of,
    top_nine_shows_outside,
)

Limits = Sequence[Sequence[Limit]]
"""Limit of the colour scale of each block of each panel."""


def draw_top_nine(spec: TopNineFigure, *, width: float | None = None) -> Figure:
    """Draw a top-nine figure, `width` inches wide; None chooses a width of at most one page."""
    check_width(width)
    with sheet_style():
        limits = [[block.limit(spec.style.percentile) for block in panel.blocks] for panel in spec.panels]
        if spec.style.medium == "slide":
            return draw_slide(width, lambda page: _fit(spec, limits, page))
        width = page_width_for(spec.style.medium, width)
        body = arrange_top_nine(spec, limits, width, around=height_around(spec.title))
        return _draw(spec, limits, body, Page(body.room + 2 * MARGIN))


def _fit(spec: TopNineFigure, limits: Limits, page: Page) -> Fit | None:
    """Return the layout with the largest blocks for a page of fixed height, or None if none fits."""
    for body in bodies_of_width(spec, limits, page.width):
        footer = _footer(spec, limits, body)
        if body.height <= page.body_room(spec.title, footer.height, BELOW_TITLE):
            return Fit(-math.log(body.block_width / page.width), partial(_draw, spec, limits, body, page))
    return None


def _draw(spec: TopNineFigure, limits: Limits, body: TopNineBody, page: Page) -> Figure:
    def paint(paper: Paper, corner: Corner) -> None:
        _Painter(paper, spec, _notes(spec, body), corner).paint(body)

    footer = _footer(spec, limits, body)
    figure = compose(spec.title, footer, (body.width, body.height), paint, page)
    set_colour_scale(figure, spec.units, [limit for of_panel in limits for limit in of_panel])
    return figure


def _footer(spec: TopNineFigure, limits: Limits, body: TopNineBody) -> Footer:
    every = [limit for of_panel in limits for limit in of_panel]
    text = " · ".join(filter(None, (_scale_line(spec, every), _notes(spec, body).legend)))
    return Footer([signed_key()], text, spec.footer, body.room)


def _notes(spec: TopNineFigure, body: TopNineBody) -> Notes:
    return Notes(
        (crop.note, next(frames_of(placed.projections, spec.block_shape)))
        for panel in body.panels
        for placed in panel.blocks
        for crop in placed.block.crops
    )


class _Painter:
    """Draws the panels with their top left corner at `corner`."""

    def __init__(self, paper: Paper, spec: TopNineFigure, notes: Notes, corner: tuple[float, float]) -> None:
        self.paper = paper
        self.spec = spec
        self.notes = notes
        self.corner = corner

    def paint(self, body: TopNineBody) -> None:
        for number, placed in enumerate(body.panels):
            for caption in (placed.title, *placed.heads):
                self._caption(caption)
            self._blocks(number, placed)

    def _blocks(self, number: int, placed: PlacedLayer) -> None:
        for index, block in enumerate(placed.blocks):
            shape = self.spec.block_shape
            projections = frames_of(block.projections.moved(*self.corner), shape)
            patches = frames_of(block.patches.moved(*self.corner), shape)
            for which, crop in enumerate(block.block.crops):
                name = f"{number}-{index}-{which}"
                frame, fills = next(projections), self.spec.fills_frame(placed.panel, block.block)
                colours = to_rgb(crop.projection, block.limit.value)
                self._crop(colours, frame, crop, fills, f"projection-{name}")
                self._crop(true_colours(crop.patch, "patch"), next(patches), crop, fills, f"patch-{name}")
                self._note(crop, frame, name)
            for caption in block.captions:
                self._caption(caption)

    def _crop(self, colours: FloatArray, frame: Rect, crop: Crop, fills: Size, gid: str) -> None:
        if crop.size != fills:
            self.paper.ground(frame, OUTSIDE)
        self.paper.image(_bytes(colours), place_crop(frame, crop.size, fills, crop.cut), gid)

    def _note(self, crop: Crop, frame: Rect, name: str) -> None:
        paint_note(self.paper, self.notes.lines(crop.note), frame, f"note-{name}", middle=crop.zero)

    def _caption(self, caption: Caption) -> None:
        self.paper.lines(caption.lines, caption.x + self.corner[0], caption.y + self.corner[1], caption.gid)


def _scale_line(spec: TopNineFigure, limits: Sequence[Limit]) -> str:
    """Return the line about shared colour scales, clipping and cropping."""
    zero = not any(limit.value for limit in limits)
    parts = ["all projections are zero" if zero else "each channel has its own colour scale; grey is zero"]
    parts += clipping_text(spec.style.percentile, limits)
    parts += [clean(spec.crop_text)] if spec.crop_text else []
    parts += ["light grey: outside the image"] if top_nine_shows_outside(spec) else []
    return " · ".join(parts)


def _bytes(colours: FloatArray) -> Array:
    """Convert [0, 1] to 8-bit values, as files store them, to use an eighth of the memory."""
    return np.rint(colours * 255).astype(np.uint8)
