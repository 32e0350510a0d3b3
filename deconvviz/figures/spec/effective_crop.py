"""Smallest squares that contain most of the energy of projections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, FloatArray, check_finite
from deconvviz.figures.spec.validation import Box, rectangle

ENERGY = 0.98
"""Default share of a projection's energy that a crop contains."""

CROP_TEXT = {
    "effective": f"cropped to {100 * ENERGY:g} % of the projection's energy",
    "field": "cropped to the receptive field",
}
"""Caption of each kind of crop."""

_ROUNDING = 1e-12  # tolerance for rounding in sums, as a share of the total energy


def effective_boxes(
    projections: Sequence[Array],
    fields: Sequence[Sequence[int]],
    image_size: tuple[int, int],
    *,
    energy: float = ENERGY,
) -> tuple[Box, ...]:
    """Return a square box for each projection, all of the same size and as small as possible.

    The energy of a projection is the sum of its squared values over channels and pixels. The smallest square
    that contains the share `energy` is computed for each projection; the largest of these squares is the
    common size. Each box is inside the image, and inside the receptive field if the field is large enough. If
    a side of the image is shorter than the square, the box is cut there. Projections that are zero do not
    affect the size; their boxes are in the middle of the field. If all are zero, the fields are returned.

    Args:
        projections: Arrays (C, h, w), each cropped to its receptive field.
        fields: Receptive field of each projection: (x0, y0, x1, y1) in pixels.
        image_size: (height, width) of the image in pixels.
        energy: Share of the energy that each box contains, above 0 and at most 1.
    """
    check_energy(energy)
    boxes = [rectangle(field) for field in fields]
    tightest = [
        tightest_box(projection, field, energy) for projection, field in zip(projections, boxes, strict=True)
    ]
    side = max((_side(box) for box in tightest if box is not None), default=0)
    if not side:
        return tuple(boxes)
    return tuple(
        _square(box or field, field, side, image_size) for box, field in zip(tightest, boxes, strict=True)
    )


def check_energy(energy: float) -> None:
    if not 0 < energy <= 1:
        raise FigureError(
            f"energy {energy!r}: it must be above 0 and at most 1. Give the share of the energy to keep"
        )


def tightest_box(projection: Array, field: Box, energy: float = ENERGY) -> Box | None:
    """Return the smallest square in a field that contains the share `energy`, or None if all values are zero.

    The square is cut if the field is narrower. Of all squares of that size, the one with the most energy is
    returned.
    """
    sums = _integral(projection)
    if not sums[-1, -1]:
        return None
    needed = (energy - _ROUNDING) * sums[-1, -1]
    too_small, side = 0, max(sums.shape) - 1
    while side - too_small > 1:  # the energy never decreases with the size
        middle = (too_small + side) // 2
        if _square_energies(sums, middle).max() >= needed:
            side = middle
        else:
            too_small = middle
    energies = _square_energies(sums, side)
    y, x = (int(place) for place in np.unravel_index(np.argmax(energies), energies.shape))
    height, width = _window(sums, side)
    return field[0] + x, field[1] + y, field[0] + x + width, field[1] + y + height


def reachable(box: Sequence[int], most: int, image_size: tuple[int, int]) -> Box:
    """Return the box of all pixels that squares of up to `most` pixels for the field `box` can contain."""
    height, width = image_size
    x0, y0, x1, y1 = box
    return (
        max(min(x0, x1 - most), 0),
        max(min(y0, y1 - most), 0),
        min(max(x1, x0 + most), width),
        min(max(y1, y0 + most), height),
    )


def _integral(projection: Array) -> FloatArray:
    """Return the energy above and left of each pixel, (C, h, w) -> (h + 1, w + 1).

    Values are divided by the largest absolute value first, so that squares do not overflow.
    """
    check_finite(projection, "projection")
    values = np.asarray(projection, dtype=np.float64)
    largest = np.abs(values).max(initial=0)
    energy = ((values / largest if largest else values) ** 2).sum(axis=0)  # (C, h, w) -> (h, w)
    sums = np.zeros((energy.shape[0] + 1, energy.shape[1] + 1))
    sums[1:, 1:] = energy.cumsum(axis=0).cumsum(axis=1)
    return sums


def _window(sums: FloatArray, side: int) -> tuple[int, int]:
    """Return the (height, width) of a square after it is cut to the field."""
    return min(side, sums.shape[0] - 1), min(side, sums.shape[1] - 1)


def _square_energies(sums: FloatArray, side: int) -> FloatArray:
    """Return the energy in the square at each position."""
    h, w = _window(sums, side)
    energies: FloatArray = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    return energies


def _square(kept: Box, field: Box, side: int, image_size: tuple[int, int]) -> Box:
    """Return the square around `kept` in the image, inside the field if it fits, else around the field."""
    height, width = image_size
    x0, x1 = _span(kept[0], kept[2], field[0], field[2], side, width)
    y0, y1 = _span(kept[1], kept[3], field[1], field[3], side, height)
    return x0, y0, x1, y1


def _span(low: int, high: int, first: int, last: int, side: int, room: int) -> tuple[int, int]:
    """Return start and end of the square on one axis, centred between `low` and `high`.

    The field is from `first` to `last`, and the image from 0 to `room`.
    """
    length = min(side, room)
    start = (low + high - length) // 2
    free = last - length  # last start inside the field; before `first` if the square is longer than the field
    start = min(max(start, min(first, free)), max(first, free))
    start = min(max(start, 0), room - length)
    return start, start + length


def _side(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])
