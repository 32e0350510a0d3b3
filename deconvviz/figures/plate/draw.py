"""The paper's Figure 2, the strongest projections of several channels and their patches, as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from deconvviz.figures.page.footer import Foot
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.style import OUTSIDE, PAPER, SMALL, TITLE, line_height, sheet_style
from deconvviz.figures.page.text import clean
from deconvviz.figures.page.title import title_lines
from deconvviz.figures.plate.layout import (
    MARGIN,
    Caption,
    PlacedPanel,
    PlateBody,
    arrange_plate,
    frames_of,
    place_crop,
    plate_shows_outside,
)
from deconvviz.figures.plate.notes import Notes
from deconvviz.figures.spec.colour import Array, FloatArray, Limit, to_rgb
from deconvviz.figures.spec.plate import Block, Crop, Panel, Plate
from deconvviz.figures.spec.validation import check_width, true_colours

__all__ = ["Block", "Crop", "Panel", "Plate", "draw_plate"]

_BELOW_TITLE, _ABOVE_FOOT = 0.09, 0.1


def draw_plate(plate: Plate, *, width: float | None = None) -> Figure:
    """The figure, `width` inches wide; without a width as wide as a page of a paper, or as little needs.

    The user's own matplotlib settings have no part in it and stay as they are. Raises FigureError.
    """
    check_width(width)
    with sheet_style():
        limits = [[block.limit(plate.percentile) for block in panel.blocks] for panel in plate.panels]
        body = arrange_plate(plate, limits, width, around=0.6 + len(plate.title) * line_height(TITLE))
        room = body.room
        title, notes = title_lines(plate.title, room), Notes(plate, body)
        every = [limit for of_panel in limits for limit in of_panel]
        said = " · ".join(filter(None, (_scale_line(plate, every), notes.legend)))
        foot = Foot(("−", "+"), said, plate.footer, room)
        top = MARGIN + sum(line.height for line in title) + (_BELOW_TITLE if title else 0)
        below = top + body.height + _ABOVE_FOOT

        paper = Paper(room + 2 * MARGIN, below + foot.height + MARGIN, " – ".join(map(clean, plate.title)))
        paper.lines(title, MARGIN, MARGIN, "title")
        _Painter(paper, plate, notes, (MARGIN, top)).paint(body)
        foot.paint(paper, MARGIN, below)
        return paper.figure


class _Painter:
    """Panels, put on the paper with their corner at `corner`."""

    def __init__(self, paper: Paper, plate: Plate, notes: Notes, corner: tuple[float, float]) -> None:
        self.paper = paper
        self.plate = plate
        self.notes = notes
        self.corner = corner

    def paint(self, body: PlateBody) -> None:
        for number, placed in enumerate(body.panels):
            for caption in (placed.title, *placed.heads):
                self._caption(caption)
            self._blocks(number, placed)

    def _blocks(self, number: int, placed: PlacedPanel) -> None:
        for index, block in enumerate(placed.blocks):
            shape = self.plate.block_shape
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

    def _crop(self, colours: FloatArray, frame: Rect, crop: Crop, panel: Panel, gid: str) -> None:
        if crop.size != panel.largest_crop:
            self.paper.ground(frame, OUTSIDE)
        self.paper.image(_bytes(colours), place_crop(frame, crop, panel), gid)

    def _note(self, crop: Crop, frame: Rect, name: str) -> None:
        """In the middle of a zero projection's grey; at the foot of any other, on a light ground."""
        lines = self.notes.lines(crop)
        step = line_height(SMALL)
        y = frame.centre[1] - len(lines) * step / 2 if crop.zero else frame.bottom - len(lines) * step
        if lines and not crop.zero:
            self.paper.ground(Rect(frame.x, y, frame.w, frame.bottom - y), PAPER, over=True)
        for index, line in enumerate(lines):
            middle = y + (index + 0.5) * step
            self.paper.centred(
                Line(line, SMALL, ink="black"), frame.centre[0], middle, f"note-{name}-{index}"
            )

    def _caption(self, caption: Caption) -> None:
        self.paper.lines(caption.lines, caption.x + self.corner[0], caption.y + self.corner[1], caption.gid)


def _scale_line(plate: Plate, limits: Sequence[Limit]) -> str:
    """What mid-grey, full colour and light grey mean, and how much was clipped."""
    if not any(limit.value for limit in limits):
        said = ["every projection here is zero: all mid-grey"]
    else:
        where = "below its projections" if plate.layout == "panels" else "in its caption"
        units = f", {clean(plate.units)}" if plate.units else ""
        said = [
            f"one scale per channel: mid-grey = 0, full colour = the ± {where}{units}",
            _clipped(plate.percentile, limits),
        ]
    said.append("light grey: outside the picture" if plate_shows_outside(plate) else "")
    return " · ".join(filter(None, said))


def _clipped(percentile: float, limits: Sequence[Limit]) -> str:
    if percentile == 100:
        return ""
    most = 100 * max(limit.clipped for limit in limits)
    share = f"up to {most:.2g} % of the non-zero values" if most else "nothing"
    return f"{percentile:g}th percentile: {share} clipped"


def _bytes(colours: FloatArray) -> Array:
    """[0, 1] -> 0 to 255: what a file keeps, in an eighth of the memory; a plate holds many crops."""
    return np.rint(colours * 255).astype(np.uint8)
