"""Parts: whether maps of scenes find the parts that a unit depends on, and tell units of a place apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deconvviz.trust_measures import part_scores
from deconvviz.trust_measures.measure import Measure
from deconvviz.trust_measures.place import Case, Place
from deconvviz.trust_measures.statistics import Array, Group, Sample
from deconvviz.trust_measures.true_effects import Effects, effects_at

READINGS = ("energy", "contribution")
SOURCE = "after Hesse et al. 2023 (FunnyBirds)"
MEANINGS = {
    "finds": "mean rank correlation, for each unit, of what the map says of each part with the fall of the "
    "activation when the scene is redrawn without it (1: perfect; baseline: area of the parts)",
    "tells_apart": "the same between the units of one place, after what they share is taken out (1: perfect; "
    "baseline: one map for all units)",
    "energy_over_area": "energy on the part of largest effect over its share of the field's area (baseline: "
    "a uniform map)",
    "pointing": "share of units whose highest pixel lies in the part of largest effect (baseline: its area)",
}
SOURCES = {
    "finds": SOURCE,
    "tells_apart": "defined here, " + SOURCE,
    "energy_over_area": "Wang et al. 2020; Arras et al. 2022",
    "pointing": "Zhang et al. 2016",
}


class Parts:
    """Scores of one method on scenes, with controls.

    A method is read as energy or as signed contribution, whichever is better. To avoid a selection bias, the
    reading for the even scenes is chosen on the odd ones and the reverse. The named reading is the better one
    on all scenes.
    """

    name = "parts"

    def __init__(self) -> None:
        self._effects: list[Effects] = []
        self._scenes: list[dict[str, _Scores]] = []  # by reading
        self._controls: list[dict[str, dict[str, _Scores]]] = []  # by control and reading
        self._last: dict[str, Array] | None = None  # readings of the scene before
        self._last_scale: Array | None = None
        self._signed = False
        self.excluded = 0  # units that no part moves
        self.scenes_without_parts = 0

    def see(self, case: Case) -> None:
        if case.place.picture.scene is None:
            return
        self._signed = case.method.signed
        effects = effects_at(case.place)
        if effects is None:
            self.scenes_without_parts += 1
            return
        self.excluded += int((~effects.moved).sum())
        if effects.moved.sum() < 2:
            self.scenes_without_parts += 1
            return
        pixels = {reading: case.reading(reading) for reading in READINGS}
        cut = {reading: case.place.cut(values) for reading, values in pixels.items()}
        scale = case.place.activations if case.method.signed else None
        self._effects.append(effects)
        self._scenes.append(_scores_of(effects, cut, scale))
        self._controls.append(self._controls_of(case.place, effects, cut, scale))
        self._last, self._last_scale = pixels, scale

    def _controls_of(
        self, place: Place, effects: Effects, cut: dict[str, Array], scale: Array | None
    ) -> dict[str, dict[str, _Scores]]:
        """Return the scores of maps of another unit of the place and of another scene."""
        other = {reading: np.roll(values, 1, axis=0) for reading, values in cut.items()}
        found = {"other_unit": _scores_of(effects, other, None if scale is None else np.roll(scale, 1))}
        last, count = self._last, len(cut["energy"])
        if last is None or len(last["energy"]) < count:
            return found
        if last["energy"].shape[1:] == tuple(place.inputs.shape[-2:]):
            before = {reading: place.cut(values)[:count] for reading, values in last.items()}
            last_scale = None if self._last_scale is None else self._last_scale[:count]
            found["other_scene"] = _scores_of(effects, before, last_scale)
        return found

    def to_json(self, seed: int = 0) -> dict[str, Any] | None:
        """Return the part ``parts`` of the contract; None without scenes that can be used."""
        if not self._scenes:
            return None
        named = self._better(range(len(self._scenes)))
        chosen = [self._better(self._fold(number)) for number in range(len(self._scenes))]
        found: dict[str, Any] = {"reading": named}
        for name in MEANINGS:
            own = ["energy"] * len(chosen) if name == "energy_over_area" else chosen
            sample = _sample([one[own[number]] for number, one in enumerate(self._scenes)], name)
            found[name] = Measure.of(
                sample, self._baseline(name), MEANINGS[name], SOURCES[name], seed=seed
            ).to_json()
        return {
            **found,
            "readings": {
                reading: _values([one[reading] for one in self._scenes], ("finds", "tells_apart", "pointing"))
                for reading in READINGS
            },
            "reading_chosen": "for the even scenes on the odd ones, and the reverse"
            if len(self._scenes) > 1
            else "not chosen: a single scene",
            "distraction": _sample([one["energy"] for one in self._scenes], "distraction").value,
            "controls": {
                name: _values(
                    [one[name][named] for one in self._controls if name in one], ("finds", "tells_apart")
                )
                for name in ("other_unit", "other_scene")
            },
            "scenes": len(self._scenes),
            "scenes_left_out": self.scenes_without_parts,
            "units_that_no_part_moves": self.excluded,
        }

    def _fold(self, number: int) -> range:
        """Return the scenes on which the reading for a scene is chosen."""
        return range((number + 1) % 2, len(self._scenes), 2)

    def _better(self, numbers: range) -> str:
        """Return the reading with the larger sum of `finds` and `tells_apart` on some scenes."""
        if not numbers or len(self._scenes) == 1:
            return "contribution" if self._signed else "energy"
        return max(READINGS, key=lambda reading: self._total([self._scenes[n][reading] for n in numbers]))

    @staticmethod
    def _total(scores: list[_Scores]) -> float:
        return sum(_sample(scores, name).value or 0.0 for name in ("finds", "tells_apart"))

    def _baseline(self, name: str) -> float | None:
        if name == "energy_over_area":
            return 1.0
        if name == "tells_apart":
            return 0.0
        sample = Sample()
        for effects in self._effects:
            areas = np.broadcast_to(effects.areas[:, None], effects.removed.shape)
            sample.add_values(
                part_scores.finds(areas, effects) if name == "finds" else part_scores.area_of_best(effects)
            )
        return sample.value


class _Scores:
    """Scores of the maps (K, h, w) of one scene under one reading."""

    def __init__(self, effects: Effects, pixels: Array, reading: str, scale: Array | None) -> None:
        said = part_scores.shares(effects, pixels, reading, scale)
        self.finds = part_scores.finds(said, effects)
        self.tells_apart = part_scores.tells_apart(said, effects)
        self.pointing = part_scores.pointing(pixels, effects)
        energy = np.abs(pixels)
        self.energy_over_area = part_scores.energy_over_area(energy, effects)
        self.distraction = part_scores.distraction(energy, effects)


def _scores_of(effects: Effects, maps: dict[str, Array], scale: Array | None) -> dict[str, _Scores]:
    """Return the scores under each reading. `scale` are the units' activations for signed methods."""
    return {reading: _Scores(effects, values, reading, scale) for reading, values in maps.items()}


def _sample(scores: list[_Scores], name: str) -> Sample:
    sample = Sample()
    add: Callable[[Any], None] = sample.add if name == "tells_apart" else sample.add_values
    for one in scores:
        found: Array | Group = getattr(one, name)
        add(found)
    return sample


def _values(scores: list[_Scores], names: tuple[str, ...]) -> dict[str, float | None]:
    return {name: _sample(scores, name).value for name in names}
