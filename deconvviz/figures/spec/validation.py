"""What a sheet and a plate ask of the arrays, lines and numbers that they are given."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.colour import Array, as_rgb

_ROUNDING = 1e-3  # how far undone preprocessing may leave [0, 1]


def true_colours(array: Array, what: str) -> Array:
    """A new (h, w, 3) array in [0, 1], rounding errors of undone preprocessing cut off."""
    colours = as_rgb(array, what)
    low, high = float(colours.min()), float(colours.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise FigureError(
            f"{what} has values from {low:.3g} to {high:.3g}: true colours lie from 0 to 1 "
            "(undo the preprocessing, or divide 8-bit values by 255)"
        )
    return np.clip(colours, 0, 1)


def check_pair(projection: Array, patch: Array | None, what: str) -> None:
    """A projection that can be shown, and a patch in true colours of the same height and width."""
    height, width = as_rgb(projection, f"{what}: projection").shape[:2]
    if patch is None:
        return
    crop = true_colours(patch, f"{what}: patch").shape[:2]
    if crop != (height, width):
        raise FigureError(
            f"{what}: the patch is {crop[1]}x{crop[0]} px and the projection {width}x{height} px: "
            "cut both at the same box"
        )


def lines_of(given: Iterable[str], what: str) -> tuple[str, ...]:
    """One line of text, or several."""
    lines = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(line, str) for line in lines):
        raise FigureError(f"{what} must be lines of text, not {lines!r}")
    return lines


def check_percentile(percentile: float) -> None:
    if not 0 < percentile <= 100:
        raise FigureError(
            f"percentile {percentile!r}: it must be above 0 and at most 100 (100 clips nothing)"
        )


def check_columns(columns: int | None) -> None:
    if columns is not None and (not is_whole(columns) or columns < 1):
        raise FigureError(f"columns {columns!r}: it must be a whole number from 1 on, or None")


def check_width(width: float | None) -> None:
    if width is not None and not 1 <= width <= 300:
        raise FigureError(f"width {width!r}: a figure is from 1 to 300 inches wide")


def is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
