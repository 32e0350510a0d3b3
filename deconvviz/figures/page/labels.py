"""Placement of the numbers of overlapping boxes: near their box, and not on top of each other."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.spec.arrays import FloatArray

_SMALL = 0.1  # labels avoid boxes that cover less than this share of the image
_HIDING = 1.0  # cost of covering small boxes with the whole label, in inches of distance
_OVER = 1e3  # cost of covering another label: high enough that it happens only if no place is free


def place_labels(
    boxes: Sequence[Rect], sizes: Sequence[tuple[float, float]], bounds: Rect
) -> tuple[Rect, ...]:
    """Return the rectangle of each label, inside `bounds`.

    `sizes` are the (width, height) of the labels. Each label is as near to its box as possible without
    covering other labels or much of the small boxes.
    """
    small = _table([box for box in boxes if box.area < _SMALL * bounds.area])
    placed: dict[int, Rect] = {}
    # Small boxes have few places near them, so their labels are placed first.
    for index in sorted(range(len(boxes)), key=lambda i: boxes[i].area):
        width, height = sizes[index]
        places = _places(boxes[index], width, height, bounds)
        cost = _distance(places, boxes[index], width, height)
        cost += _HIDING * _covered(places, width, height, small) / (width * height)
        cost += _OVER * _covered(places, width, height, _table(list(placed.values()))) / (width * height)
        x, y = places[int(np.argmin(cost))]
        placed[index] = Rect(float(x), float(y), width, height)
    return tuple(placed[index] for index in range(len(boxes)))


def _places(box: Rect, width: float, height: float, bounds: Rect) -> FloatArray:
    """Return candidate top left corners, (n, 2): around the box, inside along its outline, then anywhere.

    Preferred places come first.
    """
    across = _steps(box.x, box.right - width, width / 2)
    down = _steps(box.y, box.bottom - height, height / 2)
    around = [(x, y) for y in (box.y - height, box.bottom) for x in across]
    around += [(x, y) for x in (box.x - width, box.right) for y in down]
    inside = [(x, y) for y in (box.y, box.bottom - height) for x in across]
    inside += [(x, y) for x in (box.x, box.right - width) for y in down]
    places = np.concatenate([np.array(around + inside), _everywhere(width, height, bounds)])
    free = np.array([max(bounds.w - width, 0.0), max(bounds.h - height, 0.0)])
    low = np.array([bounds.x, bounds.y])
    within = np.all((places >= low - 1e-9) & (places <= low + free + 1e-9), axis=1)
    tried: FloatArray = np.clip(places[within], low, low + free)
    return tried


@functools.lru_cache(maxsize=8)
def _everywhere(width: float, height: float, bounds: Rect) -> FloatArray:
    across = _steps(bounds.x, bounds.right - width, width / 2)
    down = _steps(bounds.y, bounds.bottom - height, height / 2)
    return np.array([(x, y) for y in down for x in across])


def _steps(first: float, last: float, step: float) -> list[float]:
    count = max(int((last - first) / step), 0) + 1
    return [float(value) for value in np.linspace(first, max(first, last), count + 1)]


def _distance(places: FloatArray, box: Rect, width: float, height: float) -> FloatArray:
    """Return the distance of each place from the outline of the box, in inches."""
    right, bottom = places[:, 0] + width, places[:, 1] + height
    across = np.maximum(np.maximum(box.x - right, places[:, 0] - box.right), 0)
    down = np.maximum(np.maximum(box.y - bottom, places[:, 1] - box.bottom), 0)
    inner = np.minimum.reduce(
        [places[:, 0] - box.x, box.right - right, places[:, 1] - box.y, box.bottom - bottom]
    )
    result: FloatArray = np.hypot(across, down) + np.maximum(inner, 0)
    return result


def _covered(places: FloatArray, width: float, height: float, rects: FloatArray) -> FloatArray:
    """Return the area that a label at each place shares with the given rectangles, summed over them."""
    x, y = places[:, :1], places[:, 1:]
    wide = np.minimum(x + width, rects[:, 2]) - np.maximum(x, rects[:, 0])
    high = np.minimum(y + height, rects[:, 3]) - np.maximum(y, rects[:, 1])
    result: FloatArray = (np.maximum(wide, 0) * np.maximum(high, 0)).sum(axis=1)
    return result


def _table(rects: Sequence[Rect]) -> FloatArray:
    """Return rectangles as an array (n, 4): left, top, right, bottom."""
    return np.array([(r.x, r.y, r.right, r.bottom) for r in rects], dtype=np.float64).reshape(-1, 4)
