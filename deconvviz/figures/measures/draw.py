"""Draw measures with matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvviz.figures.curves.draw import paint_curves
from deconvviz.figures.measures.layout import (
    NUMBER_GAP,
    PANEL_TITLE,
    ROW,
    MeasuresBody,
    PlacedBars,
    arrange_measures,
)
from deconvviz.figures.page.compose import Corner, compose
from deconvviz.figures.page.footer import Footer
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.medium import Page
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.sizes import MARGIN
from deconvviz.figures.page.style import (
    CAPTION,
    COLOURS,
    INK,
    SMALL,
    SOFT_INK,
    SUBTITLE,
    line_height,
    sheet_style,
)
from deconvviz.figures.spec.measures import Bar, MeasuresFigure
from deconvviz.figures.spec.validation import check_width

KEY = "bar: value · thin line: 95 % interval · black mark: baseline, the value of a map without information"
_GRID, _AXIS = "#e4e4e4", "#8a8a8a"
_THICK = 0.55  # thickness of a bar, as a share of its row
_CAP, _BASELINE = 0.2, 0.42  # half the height of an interval's ends and of a baseline, as shares of the row


def draw_measures(figure: MeasuresFigure, *, width: float | None = None) -> Figure:
    """Draw measures, `width` inches wide; None for the default page."""
    check_width(width)
    with sheet_style():
        body = arrange_measures(figure, width)
        text = " · ".join(filter(None, [figure.key or KEY, figure.footer]))
        footer = Footer([], text, "", body.width)

        def paint(paper: Paper, corner: Corner) -> None:
            _Painter(paper, figure, corner).paint(body)

        page = Page(body.width + 2 * MARGIN)
        return compose(figure.title, footer, (body.width, body.height), paint, page)


class _Painter:
    def __init__(self, paper: Paper, figure: MeasuresFigure, corner: Corner) -> None:
        self.paper, self.figure, self.corner = paper, figure, corner
        known = () if figure.lower is None else figure.lower.curve_labels
        order = [*known, *(name for name in figure.methods if name not in known)]
        self.colours = [COLOURS[order.index(name) % len(COLOURS)] for name in figure.methods]

    def paint(self, body: MeasuresBody) -> None:
        x, y = self.corner
        for number, lines in enumerate(body.sentences):
            self.paper.lines([Line(line, SUBTITLE, ink=INK) for line in lines], x, y, f"sentence-{number}")
            y += len(lines) * line_height(SUBTITLE)
        for number, placed in enumerate(body.panels):
            self._panel(placed, number)
        for number, (text, right, middle) in enumerate(body.labels):
            line = Line(text, CAPTION, ink=INK)
            self.paper.aligned(
                line, right + self.corner[0], middle + self.corner[1], f"method-{number}", ha="right"
            )
        if body.curves is not None and self.figure.lower is not None:
            below = (self.corner[0], self.corner[1] + body.curves_top)
            paint_curves(self.paper, self.figure.lower, body.curves, below)

    def _panel(self, placed: PlacedBars, number: int) -> None:
        x, y = placed.plot.x + self.corner[0], placed.top + self.corner[1]
        self.paper.lines([Line(placed.title, PANEL_TITLE, True, INK)], x, y, f"bars-{number}")
        note = [Line(line, SMALL, ink=SOFT_INK) for line in placed.note]
        self.paper.lines(note, x, y + line_height(PANEL_TITLE), f"note-{number}")
        plot = placed.plot.moved(*self.corner)
        for text, value in zip(placed.axis.texts, placed.axis.values, strict=True):
            at = placed.x(value) + self.corner[0]
            self._line([(at, plot.y), (at, plot.bottom)], f"grid-{number}-{text}", color=_GRID, zorder=-1)
            middle = plot.bottom + line_height(SMALL) / 2
            self.paper.aligned(
                Line(text, SMALL, ink=SOFT_INK), at, middle, f"tick-{number}-{text}", ha="center"
            )
        zero = placed.x(0.0) + self.corner[0]
        self._line([(zero, plot.y), (zero, plot.bottom)], f"zero-{number}", color=_AXIS, zorder=2)
        for row, bar in enumerate(placed.panel.bars):
            self._row(placed, bar, placed.row(row).moved(*self.corner), f"{number}-{row}", self.colours[row])

    def _row(self, placed: PlacedBars, bar: Bar | None, row: Rect, name: str, colour: str) -> None:
        middle = row.centre[1]
        text = "–" if bar is None else f"{bar.value:.{placed.panel.digits}f}".replace("-", "−")
        number = Line(text, CAPTION, ink=SOFT_INK if bar is None else INK)
        self.paper.aligned(number, row.right + NUMBER_GAP, middle, f"number-{name}", ha="left")
        if bar is None:
            return
        zero, end = (placed.x(value) + self.corner[0] for value in (0.0, bar.value))
        thick = ROW * _THICK * 72
        self._line(
            [(zero, middle), (end, middle)], f"bar-{name}", color=colour, linewidth=thick, zorder=1,
            solid_capstyle="butt", alpha=0.75,
        )  # fmt: skip
        if bar.baseline is not None:
            at, half = placed.x(bar.baseline) + self.corner[0], ROW * _BASELINE
            self._line(
                [(at, middle - half), (at, middle + half)], f"baseline-{name}", color="black", linewidth=1.4,
                zorder=4, solid_capstyle="butt",
            )  # fmt: skip
        if bar.low is not None and bar.high is not None:
            low, high = (placed.x(value) + self.corner[0] for value in (bar.low, bar.high))
            cap = ROW * _CAP
            points = [(low, middle - cap), (low, middle + cap), (low, middle), (high, middle)]
            points += [(high, middle - cap), (high, middle + cap)]
            self._line(points, f"interval-{name}", color=INK, linewidth=0.7, zorder=3)

    def _line(self, points: list[tuple[float, float]], gid: str, **look: Any) -> None:
        self.paper.polyline(np.array(points), self.paper.whole, gid, **{"linewidth": 0.6, **look})
