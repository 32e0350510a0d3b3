"""Identification: whether a unit answers to its own map more than the other units of its place do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deconvviz.trust_measures.forward import activations
from deconvviz.trust_measures.measure import Measure
from deconvviz.trust_measures.place import Case
from deconvviz.trust_measures.statistics import Array, Sample

MEANING = (
    "share of maps that, put on the mean image and run forward, excite their own unit more than the other "
    "units of the place (baseline: chance)"
)
SOURCE = "defined here"


class Identification:
    """Share of hits.

    Each map is scaled to the contrast of the image inside the receptive field and put on the image of
    the mean colour. The answer of each unit is its activation relative to that on the image. A hit is a map
    whose own unit has the largest answer; units that share the largest answer share the hit. If all maps were
    equal, or no unit answered, the share would be that of chance.
    """

    name = "identification"

    def __init__(self) -> None:
        self._hits, self._chance = Sample(), Sample()

    def see(self, case: Case) -> None:
        answers = answers_to(case)
        self._hits.add_values(hits(answers))
        self._chance.add_values(np.full(len(answers), 1 / len(answers)))

    def measure(self, seed: int = 0) -> Measure:
        return Measure.of(self._hits, self._chance.value, MEANING, SOURCE, seed=seed)


def answers_to(case: Case) -> Array:
    """Return the answer of each unit (columns) to the map of each unit (rows), (K, K)."""
    place = case.place
    found = place.of_units(activations(place.network, place.layer, stimuli(case)))
    relative: Array = np.maximum(found, 0) / place.activations
    return relative


def stimuli(case: Case) -> Tensor:
    """Return the maps on the mean image, (K, C, H, W), with the contrast of the image in the field."""
    place = case.place
    x0, y0, x1, y1 = place.box
    shown = torch.zeros(case.maps.shape, dtype=place.inputs.dtype)
    contrast = float(place.cut(place.inputs.numpy()).std())
    for number, own in enumerate(place.cut(case.maps)):
        deviation = float(own.std())
        if deviation > 0:
            shown[number, :, y0:y1, x0:x1] = torch.from_numpy(own * (contrast / deviation)).to(shown.dtype)
    return shown


def hits(answers: Array) -> Array:
    """Return the hit of each map (K,): 1, 0, or a share if several units have the largest answer."""
    largest = answers == answers.max(axis=1, keepdims=True)
    shared: Array = np.diagonal(largest) / largest.sum(axis=1)
    return shared
