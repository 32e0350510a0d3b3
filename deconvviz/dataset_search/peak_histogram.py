"""Histogram of the peaks of every channel, in bins whose width doubles when the peaks outgrow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.dataset_search.peak_finder import Numbers

BINS = 64
SMALLEST = -100
"""Exponent of the smallest width of a bin, 2^-100. It keeps all powers of two within the range of float32."""


@dataclass(eq=False)
class Histogram:
    """Numbers of images in `BINS` bins of equal width, for the peaks of N channels.

    The width of a channel's bins is a power of two, the smallest one with which `BINS` bins cover all its
    peaks and 0. An edge of the bins is 0; a channel whose peaks are never negative begins there, and other
    channels begin at the bin of their lowest peak. When a further peak does not fit, pairs of bins are added
    until it fits. A peak is thus counted in the same bin whether it was seen before or after the doubling,
    so the result depends neither on the order of the images nor on the batches.
    """

    counts: Numbers  # (N, BINS) int32
    lowest: Numbers  # (N) float, lowest peak, or 0 if that is lower
    highest: Numbers  # (N) float, highest peak, or 0 if that is higher

    def __post_init__(self) -> None:
        channels = len(self.counts)
        self._exponents = np.zeros(channels, np.int32)
        self._first = np.zeros(channels, np.int64)
        self._per_width = np.zeros(channels, self.lowest.dtype)
        self._offsets = np.zeros(channels, np.int64)  # to be added to a bin for its index in `counts`
        self._set_bins(np.arange(channels))

    @classmethod
    def empty(cls, channels: int, dtype: np.dtype[np.floating] | type = np.float32) -> Histogram:
        return cls(np.zeros((channels, BINS), np.int32), np.zeros(channels, dtype), np.zeros(channels, dtype))

    def add(self, activations: Numbers) -> None:
        """Add the finite peaks (b, N) of further images."""
        lowest = activations.min(axis=0, initial=0)
        highest = activations.max(axis=0, initial=0)
        outgrown = np.flatnonzero((lowest < self.lowest) | (highest > self.highest))
        if len(outgrown):
            self.lowest[outgrown] = np.minimum(lowest, self.lowest)[outgrown]
            self.highest[outgrown] = np.maximum(highest, self.highest)[outgrown]
            self._grow(outgrown)
        bins = np.floor(activations * self._per_width)
        if lowest.min(initial=0) < 0:
            np.minimum(bins, -1, out=bins, where=activations < 0)  # also if the product is rounded to 0
        flat = self.counts.reshape(-1)
        for of_image in bins.astype(np.intp):
            of_image += self._offsets
            flat[of_image] += 1  # each channel has its own bins, so no index occurs twice

    @property
    def widths(self) -> Numbers:
        """Width (N) float64 of the bins of each channel."""
        widths: Numbers = np.ldexp(1.0, self._exponents)
        return widths

    @property
    def starts(self) -> Numbers:
        """First edge (N) float64 of the bins of each channel."""
        with np.errstate(over="ignore"):
            return _finite(np.ldexp(self._first.astype(np.float64), self._exponents))

    def _set_bins(self, rows: Numbers) -> None:
        """Compute the bins of some channels from their lowest and highest peaks."""
        exponents = _exponents(self.lowest[rows], self.highest[rows])
        self._exponents[rows] = exponents
        self._first[rows] = _bin(self.lowest[rows], exponents)
        self._per_width[rows] = np.ldexp(1.0, -exponents)
        self._offsets[rows] = rows * BINS - self._first[rows]

    def _grow(self, rows: Numbers) -> None:
        """Compute the bins of some channels again, and move their counts into the new bins."""
        exponents, first = self._exponents[rows], self._first[rows]
        self._set_bins(rows)
        halvings = np.minimum(self._exponents[rows] - exponents, 63)  # a shift by more bits is undefined
        moved = (halvings > 0) | (self._first[rows] != first)
        rows, halvings, first = rows[moved], halvings[moved], first[moved]
        old = first[:, None] + np.arange(BINS)
        new = (old >> halvings[:, None]) - self._first[rows][:, None]
        new = np.minimum(new, BINS - 1)  # bins beyond the last one are empty
        counts = np.zeros((len(rows), BINS), np.int32)
        np.add.at(counts, (np.arange(len(rows))[:, None], new), self.counts[rows])
        self.counts[rows] = counts


def edges_of(start: float, width: float) -> Numbers:
    """Return the edges (BINS + 1) of bins with the given first edge and width."""
    first = np.rint(start / width)
    with np.errstate(over="ignore"):
        return _finite((first + np.arange(BINS + 1)) * width)


def _finite(edges: Numbers) -> Numbers:
    """Return edges in which those beyond the range of float64 are its smallest or largest number."""
    largest = np.finfo(np.float64).max
    clipped: Numbers = np.clip(edges, -largest, largest)
    return clipped


def _exponents(lowest: Numbers, highest: Numbers) -> Numbers:
    """Return the exponents (N) of the smallest widths with which `BINS` bins cover two numbers each."""
    largest = np.maximum(-lowest, highest)
    above = np.frexp(largest)[1]  # largest < 2^above
    exponents = np.where(largest > 0, above - (BINS.bit_length() - 1), SMALLEST)
    exponents = np.maximum(exponents, SMALLEST).astype(np.int32)
    for _ in range(2):  # if there are also negative peaks, up to four times the width is needed
        exponents += _bin(highest, exponents) - _bin(lowest, exponents) >= BINS
    return exponents


def _bin(values: Numbers, exponents: Numbers) -> Numbers:
    """Return the number (N) of the bin that contains each value, with 0 for the bin that begins at 0."""
    bins = np.floor(np.ldexp(values, -exponents)).astype(np.int64)
    return np.where(values < 0, np.minimum(bins, -1), bins)
