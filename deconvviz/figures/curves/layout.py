"""Layout of curves: panels, axes, labels and legend, in inches from the top left corner of the body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.curves.ticks import tick_labels, ticks
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.sizes import COLUMN, MARGIN, PAGE, TALLEST
from deconvviz.figures.page.style import CAPTION, SMALL, line_height
from deconvviz.figures.page.text import clean, elide, width_of, wrap_at_most
from deconvviz.figures.spec.arrays import Array, FloatArray
from deconvviz.figures.spec.curves import CurvePanel, Curves

SAMPLE = 0.26  # length of the line sample in a legend entry
SAMPLE_GAP = 0.05
TICK_GAP = 0.04
PANEL_TITLE = 6.8  # points

_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}  # by the number of panels; 4 columns for more panels
_GAP_X, _GAP_Y, _LEGEND_GAP, _LEGEND_APART = 0.16, 0.14, 0.08, 0.16
_WIDEST_PANEL = 4.6
_LEAST_PLOT, _LEAST_HEIGHT = 0.55, 0.5  # smallest width and height of the plot area
_RATIO = 0.62  # height of the plot area over width of the panel
_TICK_APART = 0.08  # smallest gap between two numbers on the x axis
_TICKS_APART_Y = 2.2  # smallest distance of two numbers on the y axis, in lines of text


@dataclass(frozen=True)
class Axis:
    """Axis from `low` to `high`, with the values of its ticks and their texts."""

    low: float
    high: float
    values: tuple[float, ...]
    texts: tuple[str, ...]

    def share(self, values: Array) -> FloatArray:
        """Return the position of each value on the axis: 0 is `low`, 1 is `high`."""
        # Halved, because the difference of two values may overflow.
        half: FloatArray = np.asarray(values, dtype=np.float64) / 2 - self.low / 2
        return half / (self.high / 2 - self.low / 2)


@dataclass(frozen=True)
class PlacedCurves:
    """Position of a panel; `plot` is the area inside its axes."""

    panel: CurvePanel
    plot: Rect
    x: Axis
    y: Axis
    title: tuple[str, ...]
    title_at: tuple[float, float]
    x_label: tuple[str, ...]
    y_label: str
    y_label_x: float

    def points(self, x: Array, y: Array) -> FloatArray:
        """Convert values to positions in inches, (n, 2)."""
        across = self.plot.x + self.x.share(x) * self.plot.w
        down = self.plot.bottom - self.y.share(y) * self.plot.h
        return np.stack([across, down], axis=1)


@dataclass(frozen=True)
class LegendEntry:
    text: str
    number: int  # of the curve or of the reference
    reference: bool
    x: float
    y: float


@dataclass(frozen=True)
class CurvesBody:
    width: float
    height: float
    page: float
    panels: tuple[PlacedCurves, ...]
    legend: tuple[LegendEntry, ...]


def arrange_curves(curves: Curves, width: float | None, around: float) -> CurvesBody:
    """Return the body for a page of `width` inches; `around` is the height of title and footer."""
    count = len(curves.panels)
    columns = min(curves.style.columns or _COLUMNS.get(count, 4), count)
    page = (PAGE if width is None else width) - 2 * MARGIN
    wide = min((page + _GAP_X) / columns - _GAP_X, _WIDEST_PANEL)
    rows = math.ceil(count / columns)
    plot_height = max(_RATIO * wide, _LEAST_HEIGHT)
    panels = _panels(curves, columns, wide, plot_height)
    room = columns * (wide + _GAP_X) - _GAP_X if width is None else page
    legend: list[LegendEntry] = []
    legend_height = 0.0
    if curves.style.legend:
        legend, legend_height = _legend(curves, max(room, COLUMN - 2 * MARGIN) if width is None else room)
    bottom = _bottom(panels)
    over = bottom + legend_height + around - TALLEST
    if over > 0:
        plot_height = max(plot_height - over / rows, min(plot_height, _LEAST_HEIGHT))
        panels = _panels(curves, columns, wide, plot_height)
        bottom = _bottom(panels)
    legend = [LegendEntry(e.text, e.number, e.reference, e.x, e.y + bottom + _LEGEND_GAP) for e in legend]
    body = columns * (wide + _GAP_X) - _GAP_X
    chosen = max(body + 2 * MARGIN, COLUMN) if width is None else width
    height = bottom + (_LEGEND_GAP + legend_height if legend else 0)
    return CurvesBody(body, height, chosen, tuple(panels), tuple(legend))


def _panels(curves: Curves, columns: int, wide: float, plot_height: float) -> list[PlacedCurves]:
    x_ranges, y_ranges = curves.x_ranges(), curves.y_ranges()
    y_axes = [_y_axis(low, high, plot_height) for low, high in y_ranges]
    left = max(width_of(text, SMALL) for axis in y_axes for text in (*axis.texts, "0")) + TICK_GAP
    left += line_height(CAPTION) + TICK_GAP  # the label
    plot_width = wide - left - _last_text(x_ranges)
    if plot_width < _LEAST_PLOT:
        raise FigureError(
            f"{columns} panels side by side do not fit: each would be {wide:.2f} inches wide. "
            "Choose fewer columns or a wider figure"
        )
    x_axes = [_x_axis(low, high, plot_width) for low, high in x_ranges]
    titles = [
        wrap_at_most(clean(panel.title, bold=True), wide - left, PANEL_TITLE, 2, bold=True)
        if panel.title.strip()
        else ()
        for panel in curves.panels
    ]
    labels = [wrap_at_most(clean(panel.labels()[0]), plot_width, CAPTION, 2) for panel in curves.panels]
    placed = []
    top = 0.0
    for start in range(0, len(curves.panels), columns):
        row = range(start, min(start + columns, len(curves.panels)))
        head = max(len(titles[n]) for n in row) * line_height(PANEL_TITLE)
        head += TICK_GAP if head else line_height(SMALL) / 2  # room for the upper half of the top number
        for n in row:
            if curves.panels[n].blank:
                continue
            x = (n - start) * (wide + _GAP_X)
            plot = Rect(x + left, top + head, plot_width, plot_height)
            title_y = plot.y - TICK_GAP - len(titles[n]) * line_height(PANEL_TITLE)
            placed.append(
                PlacedCurves(
                    panel=curves.panels[n],
                    plot=plot,
                    x=x_axes[n],
                    y=y_axes[n],
                    title=titles[n],
                    title_at=(plot.x, title_y),
                    x_label=labels[n],
                    y_label=elide(clean(curves.panels[n].labels()[1]), plot_height, CAPTION),
                    y_label_x=x,
                )
            )
        below = TICK_GAP + line_height(SMALL) + max(len(labels[n]) for n in row) * line_height(CAPTION)
        top += head + plot_height + below + _GAP_Y
    return placed


def _bottom(panels: Sequence[PlacedCurves]) -> float:
    return max(below_axis(placed) + len(placed.x_label) * line_height(CAPTION) for placed in panels)


def below_axis(placed: PlacedCurves) -> float:
    """Return the y position of the top of the x label."""
    return placed.plot.bottom + TICK_GAP + line_height(SMALL)


def _last_text(ranges: Sequence[tuple[float, float]]) -> float:
    """Return the room to the right of the plot area for half of the last number on an x axis."""
    widest = (width_of(text, SMALL) for low, high in ranges for text in _x_axis(low, high, 1.0).texts)
    return max(widest, default=0.0) / 2 + 0.02


def _y_axis(low: float, high: float, height: float) -> Axis:
    most = int(height / (_TICKS_APART_Y * line_height(SMALL)))
    values = ticks(low, high, min(max(most, 4), 7))
    return Axis(low, high, values, tick_labels(values))


def _x_axis(low: float, high: float, width: float) -> Axis:
    """Return an axis with as many ticks as there is room for their numbers, at most 8."""
    for most in range(8, 1, -1):
        values = ticks(low, high, most)
        axis = Axis(low, high, values, tick_labels(values))
        places = axis.share(np.array(values)) * width
        sizes = [width_of(text, SMALL) for text in axis.texts]
        free = [places[n + 1] - places[n] - (sizes[n] + sizes[n + 1]) / 2 for n in range(len(values) - 1)]
        if min(free, default=1.0) >= _TICK_APART:
            return axis
    return Axis(low, high, values[:1], axis.texts[:1])


def _legend(curves: Curves, room: float) -> tuple[list[LegendEntry], float]:
    """Return the legend entries and their height. Entries are in columns of equal width from (0, 0)."""
    named = [(label, number, False) for number, label in enumerate(curves.curve_labels)]
    named += [(label, number, True) for number, label in enumerate(curves.reference_labels)]
    before = SAMPLE + SAMPLE_GAP
    widest = max(width_of(clean(label), CAPTION) for label, _, _ in named) + 0.01
    pitch = min(before + widest, room) + _LEGEND_APART
    columns = max(int((room + _LEGEND_APART) / pitch), 1)
    columns = math.ceil(len(named) / math.ceil(len(named) / columns))  # rows of similar length
    entries = [
        LegendEntry(
            text=elide(clean(label), pitch - _LEGEND_APART - before, CAPTION),
            number=number,
            reference=reference,
            x=index % columns * pitch,
            y=index // columns * line_height(CAPTION),
        )
        for index, (label, number, reference) in enumerate(named)
    ]
    return entries, math.ceil(len(named) / columns) * line_height(CAPTION)
