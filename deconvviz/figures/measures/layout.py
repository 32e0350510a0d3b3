"""Layout of measures: sentences, panels of bars and panels of curves, in inches from the top left corner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.curves.layout import Axis, CurvesBody, arrange_curves
from deconvviz.figures.curves.ticks import tick_labels, ticks
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.sizes import MARGIN, PAGE
from deconvviz.figures.page.style import CAPTION, SMALL, SUBTITLE, line_height
from deconvviz.figures.page.text import clean, elide, width_of, wrap, wrap_at_most
from deconvviz.figures.spec.measures import BarPanel, MeasuresFigure

ROW = 0.15  # height of the row of one method
PANEL_TITLE = 6.8  # points
NUMBER_GAP = 0.05
_COLUMNS = 3
_GAP_X, _GAP_Y, _LABEL_GAP, _AFTER = 0.2, 0.13, 0.07, 0.14
_NUMBER = 0.34  # room for a number to the right of its bar
_NOTE_LINES = 3
_LEAST_PLOT = 0.5
_MOST_LABEL = 1.3

Lines = tuple[str, ...]


@dataclass(frozen=True)
class PlacedBars:
    """Position of a panel of bars; `plot` is the area of its bars, one row for each method."""

    panel: BarPanel
    plot: Rect
    axis: Axis
    title: str
    note: Lines
    top: float

    def row(self, number: int) -> Rect:
        """Return the row of a method."""
        return Rect(self.plot.x, self.plot.y + number * ROW, self.plot.w, ROW)

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        return self.plot.x + float(self.axis.share(np.array(value))) * self.plot.w


@dataclass(frozen=True)
class MeasuresBody:
    width: float
    height: float
    sentences: tuple[Lines, ...]
    panels: tuple[PlacedBars, ...]
    labels: tuple[tuple[str, float, float], ...]  # text, right end, middle of its row
    curves: CurvesBody | None
    curves_top: float


def arrange_measures(figure: MeasuresFigure, width: float | None) -> MeasuresBody:
    """Return the body for a page of `width` inches; None for the default page."""
    room = (PAGE if width is None else width) - 2 * MARGIN
    sentences = tuple(wrap(clean(text), room, SUBTITLE) for text in figure.sentences)
    top = sum(map(len, sentences)) * line_height(SUBTITLE)
    top += _AFTER if sentences else 0
    columns = min(figure.style.columns or _COLUMNS, len(figure.bars))
    names = [clean(name) for name in figure.methods]
    label = min(max(width_of(name, CAPTION) for name in names) + 0.01, _MOST_LABEL) + _LABEL_GAP
    wide = (room - label + _GAP_X) / columns - _GAP_X
    if wide - _NUMBER < _LEAST_PLOT:
        raise FigureError(
            f"{columns} panels side by side do not fit into {room:.2f} inches. "
            "Choose fewer columns or a wider figure"
        )
    panels: list[PlacedBars] = []
    labels = []
    for first in range(0, len(figure.bars), columns):
        row = figure.bars[first : first + columns]
        notes = [wrap_at_most(_note(panel), wide, SMALL, _NOTE_LINES) for panel in row]
        head = line_height(PANEL_TITLE) + max(map(len, notes)) * line_height(SMALL) + 0.03
        for index, (panel, note) in enumerate(zip(row, notes, strict=True)):
            x = label + index * (wide + _GAP_X)
            plot = Rect(x, top + head, wide - _NUMBER, ROW * len(names))
            title = elide(clean(panel.title, bold=True), wide, PANEL_TITLE, True)
            panels.append(PlacedBars(panel, plot, _axis(panel, plot.w), title, note, top))
        labels += [
            (elide(name, label - _LABEL_GAP, CAPTION), label - _LABEL_GAP, top + head + (n + 0.5) * ROW)
            for n, name in enumerate(names)
        ]
        top += head + ROW * len(names) + line_height(SMALL) + _GAP_Y
    curves = None
    if (lower := figure.lower) is not None:
        top += _AFTER - _GAP_Y
        curves = arrange_curves(lower, room + 2 * MARGIN, around=top)
    height = top + (curves.height if curves is not None else -_GAP_Y)
    return MeasuresBody(room, height, sentences, tuple(panels), tuple(labels), curves, top)


def _note(panel: BarPanel) -> str:
    direction = f" ({panel.better} is better)" if panel.better else ""
    return clean(panel.note + direction)


def _axis(panel: BarPanel, width: float) -> Axis:
    low, high = panel.range
    most = max(2, min(5, math.floor(width / 0.3)))
    values = ticks(low, high, most)
    return Axis(low, high, values, tick_labels(values))
