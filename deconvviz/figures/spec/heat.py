"""Conversion of scalar maps to colours, from dark blue (lowest) to yellow (highest), similar to viridis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.figures.spec.arrays import Array, FloatArray, check_finite, true_colours

DARKEST = 0.6
"""Brightness of a map over a black pixel of an image; over a white one it is 1."""

_COLOURS = np.array(
    [[int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)] for colour in (
        "440154", "481a6c", "472f7d", "414487", "39568c", "31688e", "2a788e", "23888e", "1f988b", "22a884",
        "35b779", "54c568", "7ad151", "a5db36", "d2e21b", "fde725",
    )]
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """Values that are shown in the first and in the last colour."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{_text(self.low)} … {_text(self.high)}"


def _text(value: float) -> str:
    """Return a number as text. Thousands have commas and no exponent."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def interval_of(maps: Sequence[Array]) -> Interval:
    """Return the interval from the lowest to the highest value of a group of maps."""
    for values in maps:
        check_finite(values, "map")
    return Interval(
        min((float(np.min(values)) for values in maps), default=0.0),
        max((float(np.max(values)) for values in maps), default=0.0),
    )


def heat_rgb(values: Array, interval: Interval) -> FloatArray:
    """Convert values (h, w) to a new (h, w, 3) array in [0, 1]; values outside the interval are clipped."""
    flat = np.asarray(values, dtype=np.float64).reshape(np.shape(values)[:2])
    span = interval.high / 2 - interval.low / 2  # halved, because the difference itself may overflow
    share = np.zeros_like(flat) if span <= 0 else (np.clip(flat, interval.low, interval.high) / 2
                                                   - interval.low / 2) / span  # fmt: skip
    stops = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(share, stops, _COLOURS[:, channel]) for channel in range(3)], axis=-1)


def over_image(heat: FloatArray, image: Array, drawn: Array | None = None) -> FloatArray:
    """Return the colours of a map (h, w, 3), darker where the image (h, w, 3) under it is dark.

    Where `drawn` (h, w) is False, return the grey levels of the image, with less contrast.
    """
    grey = true_colours(image, "image under a map").mean(axis=2, keepdims=True)
    found: FloatArray = heat * (DARKEST + (1 - DARKEST) * grey)
    if drawn is not None:
        found = np.where(np.asarray(drawn, bool)[..., None], found, 0.25 + 0.6 * grey)
    return found
