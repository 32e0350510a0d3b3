"""Sums of the peaks of every channel over the images of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.dataset_search.exact_sums import add_exactly
from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.image_sources.labels import UNKNOWN, Labels

MAX_CLASSES = 1000
MAX_BYTES = 512 * 2**20
"""Largest memory of the sums, 16 bytes for each class and channel."""


@dataclass(eq=False)
class ClassSums:
    """Sums of the peaks of N channels over the images of C classes, kept with their rounding errors."""

    total: Numbers  # (C, N) float64
    rounding: Numbers  # (C, N) float64, rounding errors of `total`, to be added to it
    images: Numbers  # (C) int64, number of images of each class

    @classmethod
    def empty(cls, channels: int, labels: Labels | None) -> ClassSums | None:
        """Return empty sums; None without labels, or if there are too many classes to keep sums."""
        classes = 0 if labels is None else len(labels.names)
        if not 1 <= classes <= MAX_CLASSES or classes * channels * 16 > MAX_BYTES:
            return None
        return cls(np.zeros((classes, channels)), np.zeros((classes, channels)), np.zeros(classes, np.int64))

    def add(self, activations: Numbers, classes: Numbers) -> None:
        """Add the peaks (b, N) of images of the given classes (b); `UNKNOWN` is left out."""
        for values, number in zip(activations.astype(np.float64), classes.tolist(), strict=True):
            if number != UNKNOWN:
                self.total[number] = add_exactly(self.total[number], values, self.rounding[number])
                self.images[number] += 1

    @property
    def means(self) -> Numbers:
        """Mean peaks (N, c) float64 of the classes that have images, in the order of their names."""
        some = self.images > 0
        means: Numbers = ((self.total[some] + self.rounding[some]) / self.images[some, None]).T
        return means
