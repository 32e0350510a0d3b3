"""The k strongest images of every channel and its statistics, updated batch by batch.

The results of two parts of a dataset can be merged, in any order, into the result of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.dataset_search.exact_sums import add_exactly
from deconvviz.dataset_search.peak_finder import Numbers, Peaks

NO_IMAGE = np.iinfo(np.int64).max
"""Placeholder for an image index, while a channel has fewer than k images."""


@dataclass(eq=False)
class Top:
    """The k strongest peaks of N channels, at most one for each image, strongest first.

    Equal peaks are ordered by image index, and thus by image id. Sums are kept with their rounding errors.
    Therefore results depend neither on the order of the images nor on the batches.
    """

    activation: Numbers  # (N, k) float, -inf where there is no peak yet
    image: Numbers  # (N, k) int64, image indices
    place: Numbers  # (N, k) int32, flat indices in the feature maps
    fired: Numbers  # (N) int64, number of images with a peak above zero
    total: Numbers  # (N) float64, sum of the peaks
    rounding: Numbers  # (N) float64, rounding error of `total`, to be added to it
    lowest: Numbers  # (N) float, lowest peak of all images, inf where there is no peak yet
    image_count: int = 0

    @classmethod
    def empty(cls, channels: int, k: int, dtype: np.dtype[np.floating] | type = np.float32) -> Top:
        return cls(
            np.full((channels, k), -np.inf, dtype),
            np.full((channels, k), NO_IMAGE, np.int64),
            np.zeros((channels, k), np.int32),
            np.zeros(channels, np.int64),
            np.zeros(channels, np.float64),
            np.zeros(channels, np.float64),
            np.full(channels, np.inf, dtype),
        )

    @property
    def k(self) -> int:
        """Maximum number of peaks kept for each channel."""
        return int(self.activation.shape[1])

    def add(self, peaks: Peaks) -> None:
        """Add the peaks of further images."""
        activations = peaks.activations + peaks.activations.dtype.type(0)  # turns -0.0 into 0.0
        self._insert(activations.T, np.broadcast_to(peaks.numbers, activations.T.shape), peaks.places.T)
        self.fired += (activations > 0).sum(axis=0)
        self.lowest = np.minimum(self.lowest, activations.min(axis=0, initial=np.inf))
        for of_image in activations.astype(np.float64):
            self._add_to_sum(of_image)
        self.image_count += len(activations)

    def merge(self, other: Top) -> None:
        """Add the results of other images."""
        self._insert(other.activation, other.image, other.place)
        self.fired += other.fired
        self.lowest = np.minimum(self.lowest, other.lowest)
        self._add_to_sum(other.total)
        self._add_to_sum(other.rounding)
        self.image_count += other.image_count

    @property
    def silent(self) -> Numbers:
        """Peaks (N, k) bool that are 0 in a channel without any negative peak.

        Such a channel is rectified, and the order of its images with a 0 is arbitrary. In a channel with
        negative peaks, 0 is an ordinary value.
        """
        silent: Numbers = (self.activation == 0) & (self.lowest >= 0)[:, None]
        return silent

    @property
    def mean(self) -> Numbers:
        """Mean peak (N) float64 of each channel."""
        return (self.total + self.rounding) / max(self.image_count, 1)

    def _insert(self, activation: Numbers, image: Numbers, place: Numbers) -> None:
        """Insert further peaks (N, m) and keep the k strongest."""
        rows = np.flatnonzero(activation.max(axis=1, initial=-np.inf) >= self.activation[:, -1])
        if not len(rows):
            return
        activations = np.concatenate([self.activation[rows], activation[rows]], axis=1)
        images = np.concatenate([self.image[rows], image[rows]], axis=1)
        places = np.concatenate([self.place[rows], place[rows]], axis=1)
        order = np.lexsort((images, -activations), axis=1)[:, : self.k]
        self.activation[rows] = np.take_along_axis(activations, order, axis=1)
        self.image[rows] = np.take_along_axis(images, order, axis=1)
        self.place[rows] = np.take_along_axis(places, order, axis=1)

    def _add_to_sum(self, values: Numbers) -> None:
        """Add values (N) to the sums, and the rounding errors to `rounding`."""
        self.total = add_exactly(self.total, values, self.rounding)
