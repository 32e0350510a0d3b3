"""Controls of the measure on parts that do not depend on a method: a Sobel filter, and the noise ceiling."""

from __future__ import annotations

from typing import Any

import numpy as np

from deconvviz.trust_measures import part_scores
from deconvviz.trust_measures.edges import edges
from deconvviz.trust_measures.place import Place
from deconvviz.trust_measures.statistics import Sample
from deconvviz.trust_measures.true_effects import effects_at

MEANING = (
    "scores of maps that know nothing of the unit (uniform, sobel), and of other truths in place of a map: "
    "the fall if the part is blurred or in another colour instead of removed. The latter two say how far two "
    "truths agree (a noise ceiling); they answer different questions, so a map can exceed them"
)


CONTROLS = ("uniform", "sobel", "blurred", "recoloured")


class PartControls:
    """`finds` and `tells_apart` of a uniform map, of the image's edges, and of other truths."""

    def __init__(self) -> None:
        self._samples = {
            (control, score): Sample() for control in CONTROLS for score in ("finds", "tells_apart")
        }

    def see(self, place: Place) -> None:
        effects = effects_at(place)
        if effects is None or effects.moved.sum() < 2:
            return
        count = len(place.units)
        edge = np.broadcast_to(place.cut(edges(place)) ** 2, (count, *effects.masks.shape[1:]))
        said = {
            "uniform": np.broadcast_to(effects.areas[:, None], effects.removed.shape),
            "sobel": part_scores.shares(effects, edge, "energy"),
            "blurred": effects.blurred,
            "recoloured": effects.recoloured,
        }
        for control, values in said.items():
            self._samples[control, "finds"].add_values(part_scores.finds(values, effects))
            self._samples[control, "tells_apart"].add(part_scores.tells_apart(values, effects))

    def to_json(self) -> dict[str, Any] | None:
        """Return the scores of each control; None without scenes."""
        if not self._samples["uniform", "finds"].groups:
            return None
        found: dict[str, Any] = {"meaning": MEANING}
        for (control, score), sample in self._samples.items():
            found.setdefault(control, {})[score] = sample.value
        return found
