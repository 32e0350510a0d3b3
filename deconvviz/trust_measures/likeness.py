"""Likeness: how alike the maps of different units at one place are."""

from __future__ import annotations

import numpy as np

from deconvviz.projection import Box
from deconvviz.trust_measures.measure import Measure
from deconvviz.trust_measures.place import Case
from deconvviz.trust_measures.statistics import Sample, absolute_correlations

MEANING = (
    "median absolute correlation of the maps of different units at one place (1: all alike; "
    "baseline: units of another place of the image)"
)
SOURCE = "after Nie et al. 2018; Sixt et al. 2020"


class Likeness:
    """Median absolute Pearson correlation between maps of different units.

    Maps are compared inside their receptive field, over all colours. The baseline compares each unit with
    the units of another place, inside the box around both fields.
    """

    name = "likeness"

    def __init__(self) -> None:
        self._here, self._elsewhere = Sample(np.median), Sample(np.median)

    def see(self, case: Case) -> None:
        here = case.place.cut(case.maps, case.place.box)
        self._here.add_pairs(absolute_correlations(here, here))
        far = case.place.elsewhere_box
        if far is None or not len(case.elsewhere):
            return
        box = around(case.place.box, far)
        apart = absolute_correlations(case.place.cut(case.maps, box), case.place.cut(case.elsewhere, box))
        self._elsewhere.add_values(apart.ravel())

    def measure(self, seed: int = 0) -> Measure:
        return Measure.of(self._here, self._elsewhere.value, MEANING, SOURCE, seed=seed)


def around(one: Box, other: Box) -> Box:
    """Return the smallest box that contains two boxes."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
