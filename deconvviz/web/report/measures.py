"""Measures as sentences, tables of bars with intervals and baselines, and curves."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.figures.spec.measures import Bar, BarPanel, MeasuresFigure
from deconvviz.web.report import curves
from deconvviz.web.report.curves import CurvesBlock

_KEY = "Bar: value. Line: 95 % interval. Tick: baseline, the value of a map without information."
_BETTER = {"higher": "higher is better", "lower": "lower is better", "": ""}


@dataclass(frozen=True)
class BarRow:
    """The number of one method. Positions are in percent of the axis; None if a number is not known."""

    method: str
    style: int  # number of its colour
    value: str
    interval: str
    baseline: str
    start: float
    width: float
    low: float | None
    high: float | None
    base: float | None


@dataclass(frozen=True)
class BarTable:
    """One measure of all methods."""

    title: str
    note: str
    better: str
    rows: tuple[BarRow, ...]


@dataclass(frozen=True)
class MeasuresBlock:
    """Sentences, measures and curves."""

    sentences: tuple[str, ...]
    key: str
    tables: tuple[BarTable, ...]
    curves: CurvesBlock | None
    footer: str


def block_of(figure: MeasuresFigure) -> MeasuresBlock:
    """Return the content of a figure of measures."""
    lower = figure.lower
    return MeasuresBlock(
        figure.sentences,
        figure.key or _KEY,
        tuple(_table(panel, figure.methods) for panel in figure.bars),
        None if lower is None else curves.block_of(lower),
        figure.footer,
    )


def _table(panel: BarPanel, methods: tuple[str, ...]) -> BarTable:
    intervals = any(bar is not None and bar.low is not None for bar in panel.bars)
    unknown = "interval unknown" if intervals else ""
    rows = tuple(
        _row(method, number % curves.COLOURS + 1, bar, panel.range, panel.digits, unknown)
        for number, (method, bar) in enumerate(zip(methods, panel.bars, strict=True))
    )
    return BarTable(panel.title, panel.note, _BETTER[panel.better], rows)


def _row(
    method: str, style: int, bar: Bar | None, interval: tuple[float, float], digits: int, unknown: str
) -> BarRow:
    if bar is None:
        return BarRow(method, style, "unknown", "", "", 0.0, 0.0, None, None, None)
    low, high = interval

    def at(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    zero, end = at(0.0) or 0.0, at(bar.value) or 0.0
    known = bar.low is not None and bar.high is not None
    return BarRow(
        method,
        style,
        f"{bar.value:.{digits}f}",
        f"{bar.low:.{digits}f} to {bar.high:.{digits}f}" if known else unknown,
        "" if bar.baseline is None else f"{bar.baseline:.{digits}f}",
        min(zero, end),
        round(abs(end - zero), 2),
        at(bar.low),
        at(bar.high),
        at(bar.baseline),
    )
