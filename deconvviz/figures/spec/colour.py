"""Conversion of signed arrays to grey levels: zero is mid-grey, and a group of arrays shares one limit."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, FloatArray, as_rgb, check_finite
from deconvviz.figures.spec.style import SHEET_SCALES
from deconvviz.figures.spec.validation import check_choice, check_percentile

MID_GREY = 0.5


@dataclass(frozen=True)
class Limit:
    """Limit of a colour scale: the absolute value shown as black or white.

    `clipped` is the share (0 to 1) of the non-zero values beyond it.
    """

    value: float
    percentile: float = 100.0
    clipped: float = 0.0

    def __str__(self) -> str:
        if not self.value:
            return "0"
        digits = f"{self.value:.3g}"
        return f"±{float(digits):.0f}" if 1e3 <= self.value < 1e6 else f"±{digits}"


def limit_of(arrays: Sequence[Array], *, percentile: float = 100.0, what: str = "projection") -> Limit:
    """Return one limit for a group of arrays: a percentile of their non-zero absolute values.

    Percentile 100 is the largest absolute value. Zeros are ignored, so that the empty part of a projection
    does not change its colours.
    """
    check_percentile(percentile)
    for array in arrays:
        check_finite(array, what)
    if percentile == 100:
        return Limit(max((_largest(array) for array in arrays), default=0.0))
    sizes = np.concatenate([np.abs(_float(array)).ravel() for array in arrays] or [np.zeros(0)])
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return Limit(0.0, percentile)
    value = float(np.percentile(sizes, percentile, method="higher"))
    return Limit(value, percentile, float(np.mean(sizes > value)))


def limits(
    arrays: Sequence[Array], scale: str, rows: Sequence[int], *, percentile: float = 100.0
) -> tuple[Limit, ...]:
    """Return the limit of each array of a sheet.

    Arrays share a limit if `scale` is ``sheet``, or if it is ``row`` and their entries in `rows` are equal.
    """
    check_choice(scale, SHEET_SCALES, "scale")
    groups = {"sheet": [0] * len(arrays), "row": list(rows), "tile": list(range(len(arrays)))}[scale]
    return limits_of_groups(arrays, groups, percentile=percentile)


def limits_of_groups(
    arrays: Sequence[Array], groups: Sequence[Hashable], *, percentile: float = 100.0
) -> tuple[Limit, ...]:
    """Return the limit of each array; arrays with the same entry in `groups` share one."""
    of_group: dict[Hashable, list[Array]] = {}
    for array, group in zip(arrays, groups, strict=True):
        of_group.setdefault(group, []).append(array)
    shared = {group: limit_of(members, percentile=percentile) for group, members in of_group.items()}
    return tuple(shared[group] for group in groups)


def to_rgb(signed: Array, limit: float, *, what: str = "projection") -> FloatArray:
    """Convert signed values to a new (h, w, 3) array in [0, 1]: -limit is 0, zero is 0.5, +limit is 1.

    Values beyond the limit are clipped.
    """
    values = as_rgb(signed, what)
    if not (np.isfinite(limit) and limit >= 0):
        raise FigureError(f"limit {limit!r}: it must be finite and not negative")
    if limit == 0:
        if values.any():
            raise FigureError(
                f"limit 0 for a {what} that is not zero: compute the limit from the same arrays"
            )
        return np.full_like(values, MID_GREY)
    with np.errstate(over="ignore"):  # NumPy 1 wrongly reports overflow for subnormal values
        return MID_GREY + MID_GREY * (np.clip(values, -limit, limit) / limit)


def _largest(array: Array) -> float:
    """Return the largest absolute value without copying the array."""
    return max(float(np.max(array, initial=0)), -float(np.min(array, initial=0))) if np.size(array) else 0.0


def _float(array: Array) -> FloatArray:
    return np.asarray(array).astype(np.float64)
