"""Figures of signals (C, T): each unit's part of the signal above its projection, on one time axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deconvviz.figures.spec.arrays import Array, FloatArray
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference
from deconvviz.figures.spec.style import CurvesStyle, SheetStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid

MOST_LINES = 6
"""Signals with more channels are drawn as strips of grey levels, with one row for each channel."""

_COLUMNS = 3
_MARGIN = 4  # a quarter of the field is drawn on each side of it
_HIGH = 0.4  # smallest height of a strip, relative to its width


@dataclass(frozen=True, eq=False)
class ShownSignal:
    """One unit: the whole signal (C, T), the projection (C, T), the field (first, past), and its caption."""

    caption: tuple[str, ...]
    signal: Array
    projection: Array
    field: tuple[int, int]
    note: str = ""

    @property
    def shown(self) -> slice:
        """The samples that are drawn: the receptive field and a margin on both sides."""
        return slice(*with_margin(*self.field, self.signal.shape[1]))


def with_margin(first: int, past: int, length: int) -> tuple[int, int]:
    """Return a receptive field with a margin on both sides, inside a signal of some length."""
    margin = max(1, (past - first) // _MARGIN)
    return max(0, first - margin), min(length, past + margin)


def signal_figure(
    title: tuple[str, ...], units: Sequence[ShownSignal], style: SheetStyle, footer: str
) -> Curves | TileGrid:
    """Return curves for signals with a few channels, and strips of grey levels for others."""
    if units[0].signal.shape[0] > MOST_LINES:
        return _strips(title, units, style, footer)
    columns = min(style.columns or _COLUMNS, len(units))
    panels: list[CurvePanel] = []
    signals = range_of([one.signal[:, one.shown] for one in units])
    projections = range_of([one.projection[:, one.shown] for one in units], symmetric=True)
    for first in range(0, len(units), columns):
        row = units[first : first + columns]
        panels += [_panel(one, one.signal, " · ".join(one.caption), "signal", signals) for one in row]
        blank = [replace(panels[-1], blank=True)] * (columns - len(row))
        panels += blank
        panels += [
            _panel(one, one.projection, _below(number, one.note), "projection", projections)
            for number, one in enumerate(row, first + 1)
        ]
    several = units[0].signal.shape[0] > 1
    text = "All projections share one scale, and so do all signals"
    text += "" if several else "; dashed: the receptive field"
    return Curves(
        title,
        tuple(panels),
        CurvesStyle(shared_y=False, columns=columns, legend=several),
        " · ".join(filter(None, [text, footer])),
    )


def _panel(
    one: ShownSignal, values: Array, title: str, label: str, limits: tuple[float, float]
) -> CurvePanel:
    places = np.arange(one.shown.start, one.shown.stop)
    several = len(values) > 1
    curves = [
        Curve(f"channel {number}" if several else "signal", places, row[one.shown], markers=False)
        for number, row in enumerate(values)
    ]
    first, past = one.field
    whole = (first, past) == (0, values.shape[1])
    ends = () if whole else (first - 0.5, past - 0.5)
    references = tuple(Reference(float(end), "receptive field", "x") for end in ends)
    return CurvePanel(tuple(curves), "sample", label, title, y_range=limits, references=references)


def _below(number: int, note: str) -> str:
    """Return the title of a projection. A report may not draw it below its signal."""
    return " · ".join(filter(None, [f"{number} · projection", note]))


def range_of(arrays: Sequence[Array], *, symmetric: bool = False) -> tuple[float, float]:
    """Return a range around all values; for signed values, one with zero in the middle."""
    low, high = min(float(one.min()) for one in arrays), max(float(one.max()) for one in arrays)
    if symmetric:
        high = max(abs(low), abs(high))
        low = -high
    space = 0.05 * (high - low) or 0.5
    return low - space, high + space


def _strips(title: tuple[str, ...], units: Sequence[ShownSignal], style: SheetStyle, footer: str) -> TileGrid:
    tiles, labels = [], []
    for one in units:
        first, past = one.field
        patch, projection = (values[:, first:past] for values in (one.signal, one.projection))
        samples = (f"samples {first} to {past - 1}",)
        tiles.append((GridTile(strip_of(patch), "map"),))
        tiles.append((GridTile(strip_of(projection), caption=samples, note=one.note or None),))
        labels += ["\n".join(one.caption), "projection"]
    text = "One row for each channel, from top to bottom; time runs to the right"
    return TileGrid(
        title,
        tuple(tiles),
        tuple(labels),
        style=TileGridStyle(percentile=style.percentile, medium=style.medium),
        footer=" · ".join(filter(None, [text, footer])),
        units="in the units of the signal",
        map_name="signal",
    )


def strip_of(values: Array, high: float = _HIGH) -> FloatArray:
    """Repeat the rows of a strip until it is high enough to be seen, or its columns if it is too narrow.

    `high` is the smallest height, relative to the width.
    """
    rows, columns = values.shape
    values = np.repeat(values, max(1, math.ceil(columns * high / rows)), axis=0)
    found: FloatArray = np.repeat(values, max(1, rows // columns), axis=1)
    return found
