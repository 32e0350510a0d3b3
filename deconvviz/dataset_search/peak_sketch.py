"""Sketch of the peaks of every channel, from which the correlation of two channels can be estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.dataset_search.peak_finder import Numbers

ENTRIES = 512
BITS = 15
"""Bits of each of the two whole numbers that represent a peak."""
_SMALLEST = -105  # smallest exponent; it keeps all powers of two within the range of float32
_ROWS = 1024  # channels of which the vectors are computed at a time


@dataclass(eq=False)
class Sketch:
    """A fixed random projection of the peaks of N channels from all images to `ENTRIES` numbers.

    Image n is added to entry n modulo `ENTRIES`, with a sign that depends on n (a count sketch: Charikar,
    Chen and Farach-Colton, "Finding frequent items in data streams", 2002). The cosine between the sketches
    of two channels, without their means, estimates the correlation r of their peaks over the images. Its
    standard error is about (1 - r^2) / sqrt(ENTRIES), 0.044 for unrelated channels. Single errors are larger
    for channels that are active on few images. Up to `ENTRIES` images, each has an entry of its own and the
    estimate is exact.

    Sums of whole numbers do not depend on their order. Therefore each peak is cut off to two whole numbers,
    high and low, of `BITS` bits each, in units of 2^(E - BITS) and 2^(E - 2 BITS). E is a multiple of `BITS`
    with 2^E above all peaks of the channel. When a further peak is larger, the old high numbers become the
    low ones: exactly those that the old peaks have with the new E.
    """

    high: Numbers  # (ENTRIES, N) int32
    low: Numbers  # (ENTRIES, N) int32
    exponents: Numbers  # (N) int32, E of each channel
    signs: Numbers  # (ENTRIES) int64, sum of the signs of the images

    def __post_init__(self) -> None:
        self._scale: Numbers | None = None

    @classmethod
    def empty(cls, channels: int) -> Sketch:
        return cls(
            np.zeros((ENTRIES, channels), np.int32),
            np.zeros((ENTRIES, channels), np.int32),
            np.full(channels, _SMALLEST, np.int32),
            np.zeros(ENTRIES, np.int64),
        )

    def add(self, activations: Numbers, numbers: Numbers) -> None:
        """Add the finite peaks (b, N) of the images with the indices `numbers` (b)."""
        if not len(numbers):
            return
        self._grow(np.maximum(activations.max(axis=0), -activations.min(axis=0)))
        if self._scale is None:
            self._scale = np.ldexp(1.0, BITS - self.exponents).astype(activations.dtype)
        rest = activations * self._scale
        high = np.trunc(rest)
        rest -= high
        rest *= 2**BITS
        entries, signs = numbers % ENTRIES, signs_of(numbers)
        for entry, sign, *parts in zip(
            entries.tolist(), signs.tolist(), high.astype(np.int32), rest.astype(np.int32), strict=True
        ):
            for kept, part in zip((self.high, self.low), parts, strict=True):
                (np.add if sign > 0 else np.subtract)(kept[entry], part, out=kept[entry])
        np.add.at(self.signs, entries, signs)

    def vectors(self, mean: Numbers, count: int) -> Numbers:
        """Return the sketches (N, ENTRIES) float32 without the mean peaks (N), scaled to length 1.

        `count` is the number of images. The sketch of a channel with equal peaks on all images is 0.
        """
        vectors = np.zeros((len(mean), ENTRIES), np.float32)
        for first in range(0, len(mean), _ROWS):
            rows = slice(first, first + _ROWS)
            units = self.exponents[rows] - 2 * BITS
            parts = np.ldexp(self.high[:, rows].astype(np.float64), BITS) + self.low[:, rows]
            parts -= np.ldexp(mean[rows], -units) * self.signs[:, None]
            length = np.sqrt(np.square(parts).sum(axis=0))
            # What is cut off is less than one unit for each image
            parts /= np.where(length > 2 * np.sqrt(count), length, np.inf)
            vectors[rows] = parts.T
        return vectors

    def _grow(self, largest: Numbers) -> None:
        """Make room for peaks with the largest absolute values (N)."""
        needed = -(-np.frexp(largest)[1] // BITS) * BITS
        steps = (np.where(largest > 0, needed, _SMALLEST) - self.exponents) // BITS
        grown = np.flatnonzero(steps > 0)
        if not len(grown):
            return
        self._scale = None
        self.exponents[grown] += steps[grown] * BITS
        if self.signs.any() or self.high.any() or self.low.any():
            self.low[:, grown] = np.where(steps[grown] == 1, self.high[:, grown], 0)
            self.high[:, grown] = 0


def signs_of(numbers: Numbers) -> Numbers:
    """Return a fixed pseudo-random sign (b) int64, 1 or -1, for each image index, by SplitMix64."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    signs: Numbers = 1 - 2 * (mixed >> np.uint64(63)).astype(np.int64)
    return signs
