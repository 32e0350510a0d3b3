"""The k strongest pictures of every channel, and how often it fires: kept while pictures stream by.

Two of these from two halves of a dataset merge into that of the whole, in whatever order: one machine adds
batch by batch, many merge what each has found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.dataset_search.peak_finder import Numbers, Peaks

NOBODY = np.iinfo(np.int64).max
"""In place of a picture's number, while a channel has seen fewer than k."""


@dataclass(eq=False)
class Top:
    """Of N channels the k strongest peaks, one for each picture, strongest first.

    Among equal peaks the lower picture number comes first: numbers follow the ids of the pictures, so that
    neither order nor batches have a part in it. A sum is kept in two numbers, its rounding errors in the
    second, for the same reason.
    """

    activation: Numbers  # (N, k) float, -inf where there is none yet
    image: Numbers  # (N, k) int64, numbers of pictures
    place: Numbers  # (N, k) int32
    fired: Numbers  # (N) int64, on how many pictures the peak is above zero
    total: Numbers  # (N) float64, the sum of the peaks
    rounding: Numbers  # (N) float64, what `total` lacks
    lowest: Numbers  # (N) float, the lowest peak of all pictures, inf where there is none yet
    image_count: int = 0

    @classmethod
    def empty(cls, channels: int, k: int, dtype: np.dtype[np.floating] | type = np.float32) -> Top:
        return cls(
            np.full((channels, k), -np.inf, dtype),
            np.full((channels, k), NOBODY, np.int64),
            np.zeros((channels, k), np.int32),
            np.zeros(channels, np.int64),
            np.zeros(channels, np.float64),
            np.zeros(channels, np.float64),
            np.full(channels, np.inf, dtype),
        )

    @property
    def k(self) -> int:
        """Peaks kept of each channel."""
        return int(self.activation.shape[1])

    def add(self, peaks: Peaks) -> None:
        """Take in the peaks of further pictures."""
        said = peaks.said + peaks.said.dtype.type(0)  # -0.0 is 0.0
        self._take(said.T, np.broadcast_to(peaks.numbers, said.T.shape), peaks.places.T)
        self.fired += (said > 0).sum(axis=0)
        self.lowest = np.minimum(self.lowest, said.min(axis=0, initial=np.inf))
        for one in said.astype(np.float64):
            self._sum(one)
        self.image_count += len(said)

    def merge(self, other: Top) -> None:
        """Take in what was found on other pictures."""
        self._take(other.activation, other.image, other.place)
        self.fired += other.fired
        self.lowest = np.minimum(self.lowest, other.lowest)
        self._sum(other.total)
        self._sum(other.rounding)
        self.image_count += other.image_count

    @property
    def silent(self) -> Numbers:
        """(N, k) bool, peaks that say nothing: 0, where the channel is below 0 on no image.

        Such a channel is rectified, and which of many images with a 0 come first is arbitrary. A channel
        that can be below 0 is not rectified, and a 0 is a value like any other.
        """
        silent: Numbers = (self.activation == 0) & (self.lowest >= 0)[:, None]
        return silent

    @property
    def mean(self) -> Numbers:
        """(N) float64, of the peaks."""
        return (self.total + self.rounding) / max(self.image_count, 1)

    def _take(self, activation: Numbers, image: Numbers, place: Numbers) -> None:
        """The k best of what there is and of (N, m) more."""
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

    def _sum(self, more: Numbers) -> None:
        """Knuth's sum of two numbers and its exact rounding error."""
        total = self.total + more
        part = total - self.total
        self.rounding += (self.total - (total - part)) + (more - part)
        self.total = total
