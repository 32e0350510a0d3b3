"""Summary of all peaks of every channel, kept besides the strongest ones, for an atlas of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from deconvviz.dataset_search.class_sums import ClassSums
from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.dataset_search.peak_histogram import Histogram
from deconvviz.dataset_search.peak_sketch import Sketch
from deconvviz.image_sources.labels import Labels


@dataclass(eq=False)
class Summary:
    """Histogram, sketch and sums per class of the peaks of N channels.

    The result depends neither on the order of the images nor on the batches.
    """

    labels: Labels | None
    histogram: Histogram
    sketch: Sketch
    class_sums: ClassSums | None

    @classmethod
    def empty(
        cls, channels: int, labels: Labels | None, dtype: np.dtype[np.floating] | type = np.float32
    ) -> Summary:
        return cls(
            labels,
            Histogram.empty(channels, dtype),
            Sketch.empty(channels),
            ClassSums.empty(channels, labels),
        )

    def add(self, activations: Numbers, numbers: Numbers) -> None:
        """Add the peaks (b, N) of the images with the indices `numbers` (b)."""
        self.histogram.add(activations)
        self.sketch.add(activations, numbers)
        if self.class_sums is not None and self.labels is not None:
            self.class_sums.add(activations, self.labels.codes[numbers])

    def arrays(self) -> dict[str, Numbers]:
        """Return the arrays of a checkpoint by name."""
        return {
            f"{name}.{array.name}": getattr(part, array.name)
            for name, part in self._parts().items()
            for array in fields(part)
        }

    def with_arrays(self, arrays: Mapping[str, Numbers]) -> Summary:
        """Return the summary with the arrays of a checkpoint. Raises KeyError if one is missing."""
        parts = {
            name: type(part)(*(arrays[f"{name}.{array.name}"] for array in fields(part)))
            for name, part in self._parts().items()
        }
        return Summary(self.labels, **{"class_sums": None, **parts})

    def _parts(self) -> dict[str, Any]:
        parts = {"histogram": self.histogram, "sketch": self.sketch, "class_sums": self.class_sums}
        return {name: part for name, part in parts.items() if part is not None}
