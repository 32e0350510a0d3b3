"""Signed arrays to colours: zero is mid-grey, the sign is kept, and a group of arrays shares one limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from deconvviz.errors import FigureError

Scale = Literal["sheet", "row", "tile"]
SCALES: tuple[str, ...] = get_args(Scale)
MID_GREY = 0.5
Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limit:
    """The absolute value shown in full colour, and the share (0 to 1) of the non-zero values beyond it."""

    value: float
    percentile: float = 100.0
    clipped: float = 0.0

    def __str__(self) -> str:
        if not self.value:
            return "0"
        digits = f"{self.value:.3g}"
        return f"±{float(digits):.0f}" if 1e3 <= self.value < 1e6 else f"±{digits}"


def as_rgb(array: Array, what: str) -> FloatArray:
    """(h, w), (h, w, 1) or (h, w, 3) numbers -> a new (h, w, 3) float64 array, all finite."""
    given = np.asarray(array)
    if given.ndim == 2:
        given = given[:, :, None]
    if given.ndim != 3 or given.shape[2] not in (1, 3) or 0 in given.shape:
        raise FigureError(
            f"{what} has shape {np.shape(array)}: a sheet shows (height, width), (height, width, 1) or "
            "(height, width, 3); for a network with other channels choose one or three of them"
        )
    if given.dtype.kind not in "fiub":
        raise FigureError(f"{what} holds {given.dtype}: a sheet shows real numbers")
    _refuse_not_finite(given, what)
    return np.repeat(given, 3 // given.shape[2], axis=2).astype(np.float64)


def limit_of(arrays: Sequence[Array], *, percentile: float = 100.0, what: str = "projection") -> Limit:
    """One limit for a group: its largest absolute value, or a percentile of its non-zero absolute values.

    Zeros do not count for the percentile: how much of a patch is empty must not change its colours.
    """
    if not 0 < percentile <= 100:
        raise FigureError(f"percentile {percentile!r}: choose above 0 and at most 100 (100 clips nothing)")
    for array in arrays:
        _refuse_not_finite(array, what)
    if percentile == 100:
        largest = (float(np.max(np.abs(_float(array)), initial=0.0)) for array in arrays)
        return Limit(max(largest, default=0.0))
    sizes = np.concatenate([np.abs(_float(array)).ravel() for array in arrays] or [np.zeros(0)])
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return Limit(0.0, percentile)
    value = float(np.percentile(sizes, percentile, method="higher"))
    return Limit(value, percentile, float(np.mean(sizes > value)))


def limits(
    arrays: Sequence[Array], scale: Scale, rows: Sequence[int], *, percentile: float = 100.0
) -> tuple[Limit, ...]:
    """The limit of each array, shared by all, by those with the same number in `rows`, or by none."""
    groups = {"sheet": [0] * len(arrays), "row": list(rows), "tile": list(range(len(arrays)))}.get(scale)
    if groups is None:
        raise FigureError(f"no scale {scale!r}; there are {', '.join(SCALES)}")
    shared = {
        group: limit_of([a for a, g in zip(arrays, groups, strict=True) if g == group], percentile=percentile)
        for group in set(groups)
    }
    return tuple(shared[group] for group in groups)


def to_rgb(signed: Array, limit: float, *, what: str = "projection") -> FloatArray:
    """Signed values -> a new (h, w, 3) array in [0, 1]: zero 0.5, +limit 1, -limit 0, beyond is clipped."""
    values = as_rgb(signed, what)
    if not (np.isfinite(limit) and limit >= 0):
        raise FigureError(f"limit {limit!r}: the value in full colour must be finite and not negative")
    if limit == 0:
        if values.any():
            raise FigureError(f"limit 0 for a {what} that is not zero: take it from the same arrays")
        return np.full_like(values, MID_GREY)
    with np.errstate(over="ignore"):  # NumPy 1 reports one with subnormal values; there is none
        return MID_GREY + MID_GREY * (np.clip(values, -limit, limit) / limit)


def _float(array: Array) -> FloatArray:
    return np.asarray(array).astype(np.float64)


def _refuse_not_finite(array: Array, what: str) -> None:
    bad = np.asarray(array).size - int(np.isfinite(array).sum())
    if bad:
        raise FigureError(
            f"{what} cannot be shown, {bad} of its values {'are' if bad > 1 else 'is'} NaN or infinite: "
            "look for overflow in the network's weights or in the picture"
        )
