"""The paper's Figure 2, the strongest projections of several channels and their patches, as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from deconvviz.figures.page.compose import Corner, compose, height_around
from deconvviz.figures.page.crops import place_crop
from deconvviz.figures.page.footer import Footer, clipped_share, signed_key
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.notes import Notes, paint_note
from deconvviz.figures.page.page import Paper
from deconvviz.figures.page.sizes import MARGIN
from deconvviz.figures.page.style import OUTSIDE, sheet_style
from deconvviz.figures.page.text import clean
from deconvviz.figures.spec.arrays import Array, FloatArray, true_colours
from deconvviz.figures.spec.colour import Limit, to_rgb
from deconvviz.figures.spec.top_nine import Crop, LayerPanel, TopNineFigure
from deconvviz.figures.spec.validation import check_width
from deconvviz.figures.top_nine.layout import (
    Caption,
    PlacedLayer,
    TopNineBody,
    arrange_top_nine,
    frames_of,
    top_nine_shows_outside,
)


def draw_top_nine(spec: TopNineFigure, *, width: float | None = None) -> Figure:
    """The figure, `width` inches wide; None chooses a width up to that of a page."""
    check_width(width)
    with sheet_style():
        limits = [[block.limit(spec.style.percentile) for block in panel.blocks] for panel in spec.panels]
        body = arrange_top_nine(spec, limits, width, around=height_around(spec.title))
        notes = _notes(spec, body)
        every = [limit for of_panel in limits for limit in of_panel]
        said = " · ".join(filter(None, (_scale_line(spec, every), notes.legend)))
        footer = Footer([signed_key(None)], said, spec.footer, body.room)

        def paint(paper: Paper, corner: Corner) -> None:
            _Painter(paper, spec, notes, corner).paint(body)

        return compose(spec.title, footer, (body.room + 2 * MARGIN, body.height), paint)


def _notes(spec: TopNineFigure, body: TopNineBody) -> Notes:
    return Notes(
        (crop.note, next(frames_of(placed.projections, spec.block_shape)))
        for panel in body.panels
        for placed in panel.blocks
        for crop in placed.block.crops
    )


class _Painter:
    """Panels, put on the paper with their corner at `corner`."""

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
                frame = next(projections)
                colours = to_rgb(crop.projection, block.limit.value)
                self._crop(colours, frame, crop, placed.panel, f"projection-{name}")
                self._crop(
                    true_colours(crop.patch, "patch"), next(patches), crop, placed.panel, f"patch-{name}"
                )
                self._note(crop, frame, name)
            for caption in block.captions:
                self._caption(caption)

    def _crop(self, colours: FloatArray, frame: Rect, crop: Crop, panel: LayerPanel, gid: str) -> None:
        if crop.size != panel.largest_crop:
            self.paper.ground(frame, OUTSIDE)
        self.paper.image(_bytes(colours), place_crop(frame, crop.size, panel.largest_crop, crop.cut), gid)

    def _note(self, crop: Crop, frame: Rect, name: str) -> None:
        paint_note(self.paper, self.notes.lines(crop.note), frame, f"note-{name}", middle=crop.zero)

    def _caption(self, caption: Caption) -> None:
        self.paper.lines(caption.lines, caption.x + self.corner[0], caption.y + self.corner[1], caption.gid)


def _scale_line(spec: TopNineFigure, limits: Sequence[Limit]) -> str:
    """What mid-grey, full colour and light grey mean, and how much was clipped."""
    if not any(limit.value for limit in limits):
        said = ["every projection here is zero: all mid-grey"]
    else:
        where = "below its projections" if spec.style.layout == "panels" else "in its caption"
        units = f", {clean(spec.units)}" if spec.units else ""
        said = [
            f"one scale per channel: mid-grey = 0, full colour = the ± {where}{units}",
            _clipped(spec.style.percentile, limits),
        ]
    said.append("light grey: outside the picture" if top_nine_shows_outside(spec) else "")
    return " · ".join(filter(None, said))


def _clipped(percentile: float, limits: Sequence[Limit]) -> str:
    if percentile == 100:
        return ""
    some = any(limit.clipped for limit in limits)
    share = clipped_share(limits, one=False) if some else "nothing"
    return f"{percentile:g}th percentile: {share} clipped"


def _bytes(colours: FloatArray) -> Array:
    """[0, 1] -> 0 to 255: what a file keeps, in an eighth of the memory; there are many crops."""
    return np.rint(colours * 255).astype(np.uint8)
