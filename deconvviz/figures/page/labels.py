"""Where the numbers of overlapping boxes go: near their box, never on one another."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.spec.arrays import FloatArray

_SMALL = 0.1  # a box below this share of the picture is not to be hidden by a label
_HIDING = 1.0  # inches of distance that hiding a whole label's area of small boxes is worth
_OVER = 1e3  # inches of distance that hiding another label is worth: only where nothing is free


def place_labels(
    boxes: Sequence[Rect], sizes: Sequence[tuple[float, float]], bounds: Rect
) -> tuple[Rect, ...]:
    """A label for each box, inside `bounds`: nearest, hiding no other label and little of small boxes."""
    small = _table([box for box in boxes if box.area < _SMALL * bounds.area])
    placed: dict[int, Rect] = {}
    # Small boxes have few places near them, large ones their whole outline: these choose last.
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
    """Top left corners to try, the preferred first: around the box, inside along its outline, everywhere."""
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
    """From a label's edge to the box's outline, in inches."""
    right, bottom = places[:, 0] + width, places[:, 1] + height
    beside = np.maximum(np.maximum(box.x - right, places[:, 0] - box.right), 0)
    above = np.maximum(np.maximum(box.y - bottom, places[:, 1] - box.bottom), 0)
    inner = np.minimum.reduce(
        [places[:, 0] - box.x, box.right - right, places[:, 1] - box.y, box.bottom - bottom]
    )
    result: FloatArray = np.hypot(beside, above) + np.maximum(inner, 0)
    return result


def _covered(places: FloatArray, width: float, height: float, rects: FloatArray) -> FloatArray:
    """The area of each place that lies on the given rectangles, summed."""
    x, y = places[:, :1], places[:, 1:]
    wide = np.minimum(x + width, rects[:, 2]) - np.maximum(x, rects[:, 0])
    high = np.minimum(y + height, rects[:, 3]) - np.maximum(y, rects[:, 1])
    result: FloatArray = (np.maximum(wide, 0) * np.maximum(high, 0)).sum(axis=1)
    return result


def _table(rects: Sequence[Rect]) -> FloatArray:
    """(n, 4): left, top, right, bottom."""
    return np.array([(r.x, r.y, r.right, r.bottom) for r in rects], dtype=np.float64).reshape(-1, 4)
