"""Draw curves with matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvviz.figures.curves.layout import (
    PANEL_TITLE,
    SAMPLE,
    SAMPLE_GAP,
    TICK_GAP,
    CurvesBody,
    LegendEntry,
    PlacedCurves,
    arrange_curves,
    below_axis,
)
from deconvviz.figures.page.compose import Corner, compose, height_around
from deconvviz.figures.page.footer import Footer
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.medium import Page
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.sizes import MARGIN
from deconvviz.figures.page.style import CAPTION, COLOURS, INK, SMALL, SOFT_INK, line_height, sheet_style
from deconvviz.figures.spec.arrays import Array
from deconvviz.figures.spec.curves import Curve, Curves
from deconvviz.figures.spec.validation import check_width

_GRID, _AXIS = "#e4e4e4", "#8a8a8a"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
_REFERENCES: tuple[Any, ...] = ((0, (3, 2)), (0, (1, 2)), (0, (6, 2)), (0, (6, 2, 1, 2)))


def draw_curves(curves: Curves, *, width: float | None = None) -> Figure:
    """Draw curves, `width` inches wide; None chooses a width of at most one page."""
    check_width(width)
    with sheet_style():
        body = arrange_curves(curves, width, around=height_around(curves.title))
        footer = Footer([], "", curves.footer, body.page - 2 * MARGIN)

        def paint(paper: Paper, corner: Corner) -> None:
            paint_curves(paper, curves, body, corner)

        return compose(curves.title, footer, (body.page, body.height), paint, Page(body.page))


def paint_curves(paper: Paper, curves: Curves, body: CurvesBody, corner: Corner) -> None:
    """Draw arranged curves on a page, with the top left of their body at `corner`."""
    _Painter(paper, curves, corner).paint(body)


class _Painter:
    def __init__(self, paper: Paper, curves: Curves, corner: Corner) -> None:
        self.paper, self.corner = paper, corner
        self.numbers = {label: number for number, label in enumerate(curves.curve_labels)}
        every = [curve for panel in curves.panels for curve in panel.curves]
        self.thin = {self.numbers[curve.label] for curve in every if curve.thin}
        self.marked = {self.numbers[curve.label] for curve in every if _has_markers(curve)}
        self.references = {label: number for number, label in enumerate(curves.reference_labels)}

    def paint(self, body: CurvesBody) -> None:
        for number, placed in enumerate(body.panels):
            self._axes(placed, number)
            for index, line in enumerate(placed.panel.references):
                self._reference(
                    placed, line.axis, line.value, self.references[line.label], f"{number}-{index}"
                )
            for index, curve in enumerate(placed.panel.curves):
                self._curve(placed, curve, f"{number}-{index}")
        for index, entry in enumerate(body.legend):
            self._legend(entry, index)

    def _axes(self, placed: PlacedCurves, number: int) -> None:
        plot = placed.plot.moved(*self.corner)
        for axis, text, value in (
            *(("x", text, value) for text, value in zip(placed.x.texts, placed.x.values, strict=True)),
            *(("y", text, value) for text, value in zip(placed.y.texts, placed.y.values, strict=True)),
        ):
            self._tick(placed, plot, axis, text, value, number)
        edges = np.array([(plot.x, plot.y), (plot.x, plot.bottom), (plot.right, plot.bottom)])
        self._stroke(edges, f"axes-{number}", color=_AXIS, linewidth=0.6, zorder=2)
        title = [Line(line, PANEL_TITLE, True, INK) for line in placed.title]
        x, y = placed.title_at
        self.paper.lines(title, x + self.corner[0], y + self.corner[1], f"panel-{number}")
        below = below_axis(placed) + self.corner[1]
        for index, line in enumerate(placed.x_label):
            middle = below + (index + 0.5) * line_height(CAPTION)
            label = Line(line, CAPTION, ink=INK)
            self.paper.aligned(label, plot.centre[0], middle, f"x-label-{number}-{index}", ha="center")
        if placed.y_label.strip():
            label = Line(placed.y_label, CAPTION, ink=INK)
            self.paper.upright(label, placed.y_label_x + self.corner[0], plot.centre[1], f"y-label-{number}")

    def _tick(
        self, placed: PlacedCurves, plot: Rect, axis: str, text: str, value: float, number: int
    ) -> None:
        line, gid = Line(text, SMALL, ink=SOFT_INK), f"{axis}-tick-{number}-{text}"
        if axis == "x":
            x = plot.x + float(placed.x.share(np.array(value))) * plot.w
            ends = np.array([(x, plot.y), (x, plot.bottom)])
            middle = plot.bottom + TICK_GAP + line_height(SMALL) / 2
            self.paper.aligned(line, x, middle, gid, ha="center")
        else:
            y = plot.bottom - float(placed.y.share(np.array(value))) * plot.h
            ends = np.array([(plot.x, y), (plot.right, y)])
            self.paper.aligned(line, plot.x - TICK_GAP, y, gid, ha="right")
        self._stroke(ends, f"grid-{gid}", color=_GRID, linewidth=0.5, zorder=0)

    def _reference(self, placed: PlacedCurves, axis: str, value: float, number: int, name: str) -> None:
        ends = np.array([value, value]), np.array([placed.y.low, placed.y.high])
        if axis == "y":
            ends = np.array([placed.x.low, placed.x.high]), ends[0]
        self.paper.polyline(
            self._moved(placed.points(*ends)), placed.plot.moved(*self.corner), f"reference-{name}",
            **_reference_look(number),
        )  # fmt: skip

    def _curve(self, placed: PlacedCurves, curve: Curve, name: str) -> None:
        number = self.numbers[curve.label]
        clip = placed.plot.moved(*self.corner)
        if curve.band is not None:
            low, high = curve.band
            for part, run in enumerate(_runs(np.isfinite(low) & np.isfinite(high))):
                there = placed.points(curve.x[run], low[run])
                back = placed.points(curve.x[run], high[run])[::-1]
                corners = self._moved(np.concatenate([there, back]))
                self.paper.area(corners, clip, _colour(number), f"band-{name}-{part}")
        look = _curve_look(number, markers=_has_markers(curve), thin=curve.thin)
        # Enlarged, so that markers at the edge are not cut.
        clip = Rect(clip.x - 0.03, clip.y - 0.03, clip.w + 0.06, clip.h + 0.06)
        self.paper.polyline(self._moved(placed.points(curve.x, curve.y)), clip, f"curve-{name}", **look)

    def _legend(self, entry: LegendEntry, index: int) -> None:
        x, y = entry.x + self.corner[0], entry.y + self.corner[1]
        middle = y + line_height(CAPTION) / 2
        points = np.array([(x, middle), (x + SAMPLE / 2, middle), (x + SAMPLE, middle)])
        if entry.reference:
            look = _reference_look(entry.number)
        else:
            marked, thin = entry.number in self.marked, entry.number in self.thin
            look = {**_curve_look(entry.number, markers=marked, thin=thin), "markevery": [1]}
        self._stroke(points, f"legend-line-{index}", **look)
        text = Line(entry.text, CAPTION, ink=INK)
        self.paper.lines([text], x + SAMPLE + SAMPLE_GAP, y, f"legend-{index}")

    def _stroke(self, points: Array, gid: str, **look: Any) -> None:
        self.paper.polyline(points, self.paper.whole, gid, **look)

    def _moved(self, points: Array) -> Array:
        moved: Array = points + np.array(self.corner)
        return moved


def _has_markers(curve: Curve) -> bool:
    """Return True if a curve is drawn with markers. Isolated points need one to be visible."""
    alone = any(run.stop - run.start == 1 for run in _runs(np.isfinite(curve.y)))
    return curve.markers or alone


def _runs(finite: Array) -> list[slice]:
    """Return a slice for each run of consecutive True values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _curve_look(number: int, *, markers: bool, thin: bool) -> dict[str, Any]:
    """Return the line style of a curve. Colours repeat after eight curves, with other dashes."""
    return {
        "color": _colour(number),
        "linestyle": _DASHES[number // len(COLOURS) % len(_DASHES)],
        "marker": _MARKERS[number % len(_MARKERS)] if markers else "None",
        "linewidth": 0.5 if thin else 1.1,
        "markersize": 2.8,
        "markeredgewidth": 0.0,
        "zorder": 2.5 if thin else 3,
    }


def _reference_look(number: int) -> dict[str, Any]:
    dashes = _REFERENCES[number % len(_REFERENCES)]
    return {"color": SOFT_INK, "linestyle": dashes, "linewidth": 0.8, "zorder": 2}
