"""How alike the strongest projection of a channel is to those of other strong channels at its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvviz.topnine.peak_crops import PeakCrop
from deconvviz.trust_measures.statistics import absolute_correlations

OTHERS = 2
"""Number of other channels whose projection is compared."""


@dataclass(frozen=True)
class Likeness:
    """Mean absolute correlation of a projection with those of other channels at the same place."""

    value: float
    channels: tuple[int, ...]  # the others, the strongest first

    def to_json(self) -> dict[str, Any]:
        return {"value": round(self.value, 4), "channels": list(self.channels)}


def likeness_of(strongest: PeakCrop) -> Likeness | None:
    """Return the likeness of a peak to the other units at its place; None if nothing can be compared."""
    if not strongest.others:
        return None
    others = np.stack([other.pixels for other in strongest.others])
    correlations = absolute_correlations(strongest.shown.pixels[None], others)[0]
    finite = correlations[np.isfinite(correlations)]
    if not finite.size:
        return None
    return Likeness(float(finite.mean()), tuple(other.channel for other in strongest.others))
