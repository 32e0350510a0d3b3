"""Measures of several methods: panels of bars with intervals and baselines, and panels of curves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from deconvviz.errors import FigureError
from deconvviz.figures.spec.curves import CurvePanel, Curves
from deconvviz.figures.spec.style import CurvesStyle, MeasuresStyle
from deconvviz.figures.spec.validation import check_choice, check_text, lines_of

BETTER = ("higher", "lower", "")


@dataclass(frozen=True)
class Bar:
    """A number with an interval and a baseline; None where they are not known."""

    value: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise FigureError(f"bar value {self.value!r}: it must be finite")
        if not all(math.isfinite(number) for number in self.numbers):
            raise FigureError(f"bar {self}: interval and baseline must be finite, or None")
        if (self.low is None) != (self.high is None):
            raise FigureError(f"bar {self}: give both ends of the interval, or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise FigureError(f"bar {self}: the interval has a lower limit above its upper limit")

    @property
    def numbers(self) -> tuple[float, ...]:
        """All numbers that are known."""
        every = (self.value, self.low, self.high, self.baseline)
        return tuple(number for number in every if number is not None)


@dataclass(frozen=True)
class BarPanel:
    """One bar for each method; None for a method without a number.

    `better` is ``higher``, ``lower`` or empty. `highest` is the end of the axis; by default 1, or the highest
    number. `digits` is the number of decimal places.
    """

    title: str
    note: str
    bars: tuple[Bar | None, ...]
    better: str = ""
    highest: float | None = None
    digits: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "bars", tuple(self.bars))
        check_text(self.title, "title")
        check_text(self.note, "note")
        check_choice(self.better, BETTER, "better")
        if self.highest is not None and not (math.isfinite(self.highest) and self.highest > 0):
            raise FigureError(f"{self.title}: the end of the axis is {self.highest!r}: it must be above 0")
        if not any(self.bars):
            raise FigureError(f"{self.title}: a panel of bars needs at least one bar")

    @property
    def range(self) -> tuple[float, float]:
        """Range of the axis: from 0, or the lowest number, to 1, or the highest number."""
        numbers = [number for bar in self.bars if bar is not None for number in bar.numbers]
        if self.highest is not None:
            return min(0.0, *numbers), max(self.highest, *numbers)
        low, high = min(0.0, *numbers), max(1.0, *numbers)
        return low, high if high <= 1 else high * 1.03


@dataclass(frozen=True, eq=False, repr=False)
class MeasuresFigure:
    """Bars and curves of some methods, with a few sentences above them.

    `key` explains bars, intervals and baselines; by default as for `trust`.
    """

    title: tuple[str, ...]
    methods: tuple[str, ...]
    bars: tuple[BarPanel, ...]
    curves: tuple[CurvePanel, ...] = ()
    sentences: tuple[str, ...] = ()
    style: MeasuresStyle = field(default_factory=MeasuresStyle)
    footer: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "sentences", lines_of(self.sentences, "sentences"))
        object.__setattr__(self, "methods", lines_of(self.methods, "methods"))
        object.__setattr__(self, "bars", tuple(self.bars))
        object.__setattr__(self, "curves", tuple(self.curves))
        if not self.methods or not self.bars:
            raise FigureError("a figure of measures needs at least one method and one panel of bars")
        for panel in self.bars:
            if len(panel.bars) != len(self.methods):
                raise FigureError(f"{panel.title}: {len(panel.bars)} bars for {len(self.methods)} methods")

    @property
    def lower(self) -> Curves | None:
        """The panels of curves as a figure of their own; None if there are none."""
        if not self.curves:
            return None
        return Curves((), self.curves, CurvesStyle(shared_y=False, columns=min(2, len(self.curves))))

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"MeasuresFigure({name!r}: {len(self.bars)} panels of bars, {len(self.curves)} of curves)"
