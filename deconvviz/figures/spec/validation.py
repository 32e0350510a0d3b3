"""Checks of texts and numbers in a spec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deconvviz.errors import FigureError

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels, half-open."""


def rectangle(box: Sequence[int]) -> Box:
    """Return a box of rows and columns as (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1


def lines_of(given: Iterable[str], what: str) -> tuple[str, ...]:
    """Return one line of text, or several, as a tuple of lines."""
    lines = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(line, str) for line in lines):
        raise FigureError(f"{what} must be lines of text, not {lines!r}")
    return lines


def check_text(given: str | None, what: str) -> None:
    if given is not None and not isinstance(given, str):
        raise FigureError(f"{what} must be text, not {given!r}")


def check_choice(given: str, choices: Sequence[str], what: str) -> None:
    if given not in choices:
        raise FigureError(f"unknown {what} {given!r}: choose from {', '.join(choices)}")


def check_flag(given: bool, what: str) -> None:
    if not isinstance(given, bool):
        raise FigureError(f"{what} {given!r}: it must be True or False")


def check_percentile(percentile: float) -> None:
    if not 0 < percentile <= 100:
        raise FigureError(f"percentile {percentile!r}: it must be above 0 and at most 100 (100: no clipping)")


def check_columns(columns: int | None) -> None:
    check_count(columns, "columns")


def check_count(count: int | None, what: str) -> None:
    if count is not None and (not is_whole(count) or count < 1):
        raise FigureError(f"{what} {count!r}: it must be a whole number of at least 1, or None")


def check_bands(given: Sequence[int]) -> tuple[int, ...]:
    """Return numbers of bands as a tuple; raise FigureError unless they are one or three, from 1."""
    numbers = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(numbers) not in (1, 3) or not all(is_whole(number) and number > 0 for number in numbers):
        raise FigureError(f"bands {given!r}: give three numbers, or one; the first band is 1")
    return numbers


def check_width(width: float | None) -> None:
    if width is not None and not 1 <= width <= 300:
        raise FigureError(f"width {width!r}: it must be from 1 to 300 inches")


def check_box(box: Box, what: str) -> None:
    if len(box) != 4 or not all(is_whole(edge) for edge in box):
        raise FigureError(f"{what}: box {box!r} must be four whole numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    if x0 < 0 or y0 < 0 or x1 <= x0 or y1 <= y0:
        raise FigureError(
            f"{what}: box {box!r} (x0, y0, x1, y1, half-open) is empty or has negative coordinates"
        )


def check_inside(box: Box, size: tuple[int, int], what: str, image: str) -> None:
    """Raise FigureError unless a box is inside an image of `size` (height, width)."""
    if box[2] > size[1] or box[3] > size[0]:
        raise FigureError(
            f"{what}: box {box} is not inside the {image} of {size[1]}x{size[0]} px. "
            f"Cut the box at the border of the {image}"
        )


def is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
