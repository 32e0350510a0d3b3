"""Curves as SVG lines with bands, reference lines, one legend, and a table of the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deconvviz.figures.curves.ticks import tick_labels, ticks
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 350, 8, 196
_MOST_MARKERS = 60
COLOURS, DASHES = 8, 4  # numbers of styles in the style sheet

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """Position and text of a tick."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One curve or reference line. `paths` are lists of points ``x,y`` as SVG writes them."""

    label: str
    style: int  # number of its colour
    dash: int
    paths: tuple[str, ...]
    bands: tuple[str, ...]
    markers: tuple[Point, ...]
    thin: bool = False  # a background to other curves


@dataclass(frozen=True)
class LegendEntry:
    """Label of curves or of reference lines."""

    label: str
    style: int
    dash: int
    reference: bool


@dataclass(frozen=True)
class Table:
    """Numbers of a panel: the values of x, and of each curve."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PlottedPanel:
    """One pair of axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    references: tuple[Line, ...]
    lines: tuple[Line, ...]
    tables: tuple[Table, ...]
    name: str


@dataclass(frozen=True)
class CurvesBlock:
    """Panels of curves with one legend."""

    panels: tuple[PlottedPanel, ...]
    legend: tuple[LegendEntry, ...]
    footer: str
    width: int = WIDTH
    height: int = HEIGHT
    frame: tuple[int, int, int, int] = (_LEFT, _RIGHT, _TOP, _BOTTOM)


def block_of(curves: Curves) -> CurvesBlock:
    """Return the content of a figure of curves."""
    styles = {label: number for number, label in enumerate(curves.curve_labels)}
    dashes = {label: number for number, label in enumerate(curves.reference_labels)}
    panels = tuple(
        _panel(panel, x, y, styles, dashes)
        for panel, x, y in zip(curves.panels, curves.x_ranges(), curves.y_ranges(), strict=True)
        if not panel.blank
    )
    legend = [LegendEntry(label, *_style(number), False) for label, number in styles.items()]
    legend += [LegendEntry(label, 0, number % DASHES, True) for label, number in dashes.items()]
    return CurvesBlock(panels, tuple(legend), curves.footer)


def _panel(
    panel: CurvePanel,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    styles: dict[str, int],
    dashes: dict[str, int],
) -> PlottedPanel:
    x_label, y_label = panel.labels()
    x, y = _Scale(x_range, _LEFT, _RIGHT), _Scale(y_range, _BOTTOM, _TOP)
    lines = tuple(_line(curve, x, y, styles[curve.label]) for curve in panel.curves)
    references = tuple(_reference(one, x, y, dashes[one.label]) for one in panel.references)
    what = panel.title or y_label
    name = f"{what}: {y_label} against {x_label}, {', '.join(curve.label for curve in panel.curves)}"
    return PlottedPanel(
        panel.title, x_label, y_label, x.ticks(5), y.ticks(5), references, lines, _tables(panel), name
    )


class _Scale:
    """Positions of the values of an axis."""

    def __init__(self, interval: tuple[float, float], first: float, last: float) -> None:
        self.low, self.high = interval
        self.first, self.last = first, last

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + min(max(share, 0.0), 1.0) * (self.last - self.first), 2)

    def ticks(self, most: int) -> tuple[Tick, ...]:
        values = ticks(self.low, self.high, most)
        return tuple(Tick(self(v), text) for v, text in zip(values, tick_labels(values), strict=True))


def _line(curve: Curve, x: _Scale, y: _Scale, number: int) -> Line:
    parts = _unbroken(np.isfinite(curve.y))
    paths = tuple(_points([(x(curve.x[i]), y(curve.y[i])) for i in part]) for part in parts if len(part) > 1)
    alone = [part[0] for part in parts if len(part) == 1]
    every = [i for part in parts for i in part]
    marked = every if curve.markers and len(every) <= _MOST_MARKERS else alone
    markers = tuple((x(curve.x[i]), y(curve.y[i])) for i in marked)
    return Line(curve.label, *_style(number), paths, _bands(curve, x, y), markers, curve.thin)


def _bands(curve: Curve, x: _Scale, y: _Scale) -> tuple[str, ...]:
    if curve.band is None:
        return ()
    low, high = curve.band
    return tuple(
        _points(
            [(x(curve.x[i]), y(low[i])) for i in part] + [(x(curve.x[i]), y(high[i])) for i in part[::-1]]
        )
        for part in _unbroken(np.isfinite(low) & np.isfinite(high))
        if len(part) > 1
    )


def _reference(line: Reference, x: _Scale, y: _Scale, number: int) -> Line:
    ends: list[Point] = [(_LEFT, y(line.value)), (_RIGHT, y(line.value))]
    if line.axis == "x":
        ends = [(x(line.value), _BOTTOM), (x(line.value), _TOP)]
    return Line(line.label, 0, number % DASHES, (_points(ends),), (), ())


def _tables(panel: CurvePanel) -> tuple[Table, ...]:
    """Return the numbers of a panel: one table for the curves that share their values of x."""
    groups: dict[tuple[float, ...], list[Curve]] = {}
    for curve in panel.curves:
        groups.setdefault(tuple(curve.x.tolist()), []).append(curve)
    x_label = panel.labels()[0]
    return tuple(
        Table(
            (x_label, *(curve.label for curve in members)),
            tuple(
                (_number(value), *(_with_band(curve, i) for curve in members)) for i, value in enumerate(xs)
            ),
        )
        for xs, members in groups.items()
    )


def _with_band(curve: Curve, i: int) -> str:
    value = _number(curve.y[i])
    if curve.band is None or not np.isfinite([curve.band[0][i], curve.band[1][i]]).all():
        return value
    return f"{value} [{_number(curve.band[0][i])}, {_number(curve.band[1][i])}]"


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "unknown"


def _style(number: int) -> tuple[int, int]:
    """Return the numbers of colour and dash pattern of a curve."""
    return number % COLOURS + 1, number // COLOURS % DASHES


def _unbroken(known: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Return the runs of consecutive points whose values are known."""
    runs: list[list[int]] = []
    for i, there in enumerate(known.tolist()):
        if there and runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        elif there:
            runs.append([i])
    return runs


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
