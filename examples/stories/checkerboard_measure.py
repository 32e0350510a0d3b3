"""Measures of checkerboards: the count of overlapping terms, and the power at the frequencies of a stride."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def overlap(kernel: int, stride: int) -> list[int]:
    """Return how many terms each of `stride` neighbours receives in one direction, far from the border.

    In two directions, the counts of the row and of the column are multiplied.
    """
    return [len(range(phase, kernel, stride)) for phase in range(stride)]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean power of maps by frequency. `width` is the median of the smaller sides of the maps."""

    power: np.ndarray[Any, Any]  # (side, side), the sum is 1
    width: float


def spectrum(maps: Sequence[np.ndarray[Any, Any]], side: int) -> Spectrum:
    """Return the mean power of maps (C, h, w), of which each has the same share.

    The mean of each map is subtracted, and a Hann window fades its borders.
    """
    powers = []
    for one in maps:
        window = np.outer(*(np.hanning(length + 2)[1:-1] for length in one.shape[1:]))
        centred = (one - one.mean((1, 2), keepdims=True)) * window
        power = (np.abs(np.fft.fft2(centred, (side, side))) ** 2).sum(0)
        if power.sum() > 0:
            powers.append(power / power.sum())
    return Spectrum(np.mean(powers, axis=0), float(np.median([min(one.shape[1:]) for one in maps])))


def rise(found: Spectrum, period: int) -> float:
    """Return how far the power rises above its neighbourhood at the frequencies of a period; 1: not at all.

    The result is the geometric mean over the frequencies (see `_peaks`).
    """
    return float(np.exp(np.mean([np.log(peak / around) for peak, around in _peaks(found, period)])))


def excess(found: Spectrum, period: int) -> float:
    """Return the share of all power that is above the neighbourhood at the frequencies of a period."""
    bins = (
        1.5 * len(found.power) / found.width
    ) ** 2  # of the peak that the Hann window makes of one frequency
    mirrored = [2 - (a in (0, period / 2)) for a, _ in frequencies(period)]
    mirrored = [
        m * (2 - (b in (0, period / 2))) for m, (_, b) in zip(mirrored, frequencies(period), strict=True)
    ]
    parts = [
        times * (peak - around) for times, (peak, around) in zip(mirrored, _peaks(found, period), strict=True)
    ]
    return float(max(sum(parts), 0.0) * bins)


def frequencies(period: int) -> list[tuple[int, int]]:
    """Return (a, b) for the frequencies a / period and b / period that half the period does not have."""
    half = range(period // 2 + 1)
    pairs = [(a, b) for a in half for b in half if (a, b) != (0, 0)]
    return [(a, b) for a, b in pairs if period == 2 or period % 2 or a % 2 or b % 2]


def _peaks(found: Spectrum, period: int) -> list[tuple[float, float]]:
    """Return the power at each frequency of a period, and around it.

    Around is the larger of two geometric means: of the neighbours in the same row of the spectrum, and in the
    same column. They are 3 and 4 times as far away as two frequencies that the maps can just tell apart.
    """
    power, side = np.maximum(found.power, 1e-30), len(found.power)
    away = [round(times * side / found.width) for times in (-4, -3, 3, 4)]
    peaks = []
    for a, b in frequencies(period):
        y, x = round(a * side / period), round(b * side / period)
        row = [power[y, (x + step) % side] for step in away]
        column = [power[(y + step) % side, x] for step in away]
        around = max(float(np.exp(np.mean(np.log(line)))) for line in (row, column))
        peaks.append((float(power[y, x]), around))
    return peaks
