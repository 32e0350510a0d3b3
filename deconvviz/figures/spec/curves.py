"""Curves: one or more panels of lines, for example distance against rotation angle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, FloatArray
from deconvviz.figures.spec.style import CurvesStyle
from deconvviz.figures.spec.validation import check_choice, check_flag, check_text, lines_of

AXES = ("x", "y")
_LARGEST, _SMALLEST = 1e300, 1e-300  # range in which the arithmetic of axes does not overflow


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """One line: `y` against `x`, arrays of shape (n,). NaN in `y` leaves a gap.

    `band` is (low, high), arrays of shape (n,): a shaded area around the line. Curves with the same label
    share one colour and one legend entry, even in different panels. A `thin` curve is a background to others.
    """

    label: str
    x: Array
    y: Array
    band: tuple[Array, Array] | None = None
    markers: bool = True
    thin: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise FigureError(f"curve label {self.label!r}: it must be text that is not empty")
        check_flag(self.markers, f"{self.label}: markers")
        check_flag(self.thin, f"{self.label}: thin")
        object.__setattr__(self, "x", _numbers(self.x, f"{self.label}: x"))
        object.__setattr__(self, "y", _numbers(self.y, f"{self.label}: y", gaps=True))
        self._check_length("y", self.y)
        if self.band is None:
            return
        low, high = (_numbers(edge, f"{self.label}: band", gaps=True) for edge in self.band)
        self._check_length("band", low)
        self._check_length("band", high)
        object.__setattr__(self, "band", (low, high))
        if np.any(low > high):
            raise FigureError(f"{self.label}: band has a lower limit above its upper limit")

    def _check_length(self, name: str, values: Array) -> None:
        if len(values) != len(self.x):
            raise FigureError(f"{self.label}: {name} has {len(values)} values and x has {len(self.x)}")

    @property
    def ordinates(self) -> FloatArray:
        """All finite y values, including those of the band."""
        values = np.concatenate([self.y, *(self.band or ())])
        finite: FloatArray = values[np.isfinite(values)]
        return finite

    def __repr__(self) -> str:
        return f"Curve({self.label!r}: {len(self.x)} points)"


@dataclass(frozen=True)
class Reference:
    """Dashed line at a value of one axis, with a legend entry."""

    value: float
    label: str
    axis: str = "y"

    def __post_init__(self) -> None:
        check_choice(self.axis, AXES, "axis")
        if not isinstance(self.label, str) or not self.label.strip():
            raise FigureError(f"reference label {self.label!r}: it must be text that is not empty")
        if not np.isfinite(self.value):
            raise FigureError(f"{self.label}: value {self.value!r} must be finite")


@dataclass(frozen=True, eq=False, repr=False)
class CurvePanel:
    """One pair of axes. Units are written after the labels, for example 'rotation (degrees)'.

    The place of a `blank` panel is left empty.
    """

    curves: tuple[Curve, ...]
    x_label: str
    y_label: str
    title: str = ""
    x_units: str = ""
    y_units: str = ""
    y_range: tuple[float, float] | None = None
    references: tuple[Reference, ...] = ()
    blank: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "curves", tuple(self.curves))
        object.__setattr__(self, "references", tuple(self.references))
        for name in ("x_label", "y_label", "title", "x_units", "y_units"):
            check_text(getattr(self, name), name)
        if not self.curves:
            raise FigureError("a panel of curves needs at least one curve")
        labels = [curve.label for curve in self.curves]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise FigureError(
                f"two curves of a panel have the label {twice[0]!r}: labels must be unique in a panel"
            )
        if self.y_range is not None:
            low, high = self.y_range
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise FigureError(f"y range {self.y_range!r}: the lower limit must be below the upper limit")
        if self.y_range is None and not any(curve.ordinates.size for curve in self.curves):
            raise FigureError(
                "no curve of a panel has a finite value. Give a y range, or leave the panel out"
            )

    def labels(self) -> tuple[str, str]:
        """Return the x label and the y label, each with its units."""
        named = ((self.x_label, self.x_units), (self.y_label, self.y_units))
        x, y = (f"{label} ({units})" if units else label for label, units in named)
        return x, y

    def __repr__(self) -> str:
        return f"CurvePanel({self.title or self.y_label!r}: {len(self.curves)} curves)"


@dataclass(frozen=True, eq=False, repr=False)
class Curves:
    """Panels of curves with one legend."""

    title: tuple[str, ...]
    panels: tuple[CurvePanel, ...]
    style: CurvesStyle = field(default_factory=CurvesStyle)
    footer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "panels", tuple(self.panels))
        if not self.panels:
            raise FigureError("curves need at least one panel")

    @property
    def curve_labels(self) -> tuple[str, ...]:
        """Labels of all curves, without repetition."""
        return tuple(dict.fromkeys(curve.label for panel in self.panels for curve in panel.curves))

    @property
    def reference_labels(self) -> tuple[str, ...]:
        """Labels of all reference lines, without repetition."""
        return tuple(dict.fromkeys(line.label for panel in self.panels for line in panel.references))

    def y_ranges(self) -> tuple[tuple[float, float], ...]:
        """Return the y range of each panel.

        It is the given range, else a range around the curves of the panel, or of all panels with `shared_y`.
        """
        around = [
            around_values([*(curve.ordinates for curve in panel.curves), _levels(panel, "y")])
            for panel in self.panels
        ]
        if self.style.shared_y:
            free = [own for panel, own in zip(self.panels, around, strict=True) if panel.y_range is None]
            shared = (min(low for low, _ in free), max(high for _, high in free)) if free else (0.0, 1.0)
            around = [shared] * len(self.panels)
        return tuple(
            own if panel.y_range is None else panel.y_range
            for panel, own in zip(self.panels, around, strict=True)
        )

    def x_ranges(self) -> tuple[tuple[float, float], ...]:
        """Return the x range of each panel, around all its points."""
        return tuple(
            around_values([*(curve.x for curve in panel.curves), _levels(panel, "x")], margin=0.02)
            for panel in self.panels
        )

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"Curves({name!r}: {len(self.panels)} panels)"


def around_values(arrays: Sequence[Array], margin: float = 0.05) -> tuple[float, float]:
    """Return a range (low, high) with some space around all values."""
    values = np.concatenate([np.asarray(array, dtype=np.float64) for array in arrays])
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    space = margin * high - margin * low
    if (
        low + space == low or high + space == high or space < _SMALLEST
    ):  # all values are equal, apart from rounding
        space = abs(high) / 2 or 0.5
    return low - space, high + space


def _levels(panel: CurvePanel, axis: str) -> FloatArray:
    return np.array([line.value for line in panel.references if line.axis == axis], dtype=np.float64)


def _numbers(given: Array, what: str, *, gaps: bool = False) -> FloatArray:
    """Return an array (n,) as float64, or raise FigureError. With `gaps`, NaN is allowed."""
    values = np.asarray(given)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "fiub":
        raise FigureError(
            f"{what} must be a one-dimensional array of numbers, not {values.dtype} {values.shape}"
        )
    numbers = values.astype(np.float64)
    if np.any(np.isnan(numbers)) and not gaps:
        raise FigureError(f"{what} contains NaN")
    if np.any(np.abs(numbers) > _LARGEST):
        raise FigureError(f"{what} has an absolute value above {_LARGEST:g}")
    return numbers
