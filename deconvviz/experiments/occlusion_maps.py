"""Maps of one occluded image, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.engine.units import Unit
from deconvviz.experiments.occlusion_squares import Squares
from deconvviz.projection import Projection

SURE = 2.0
"""A change is sure if it is more than this number of standard deviations between grids (ours)."""

ROUNDING = 1e-4
"""Changes below this share of the value in the complete image are taken as rounding errors (ours)."""

Floats: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OccludedImage:
    """Maps of one image. Maps are (rows, columns) of the squares; those of classes are None without classes.

    Attributes:
        name: Name of the image.
        projection: Projection of the measured unit in the complete image.
        one_unit: Whether the activity is that of one unit, and not the total of its channel.
        class_index: The right class; None without classes.
        complete_activity: Activity in the complete image.
        complete_probability: Probability of the class in the complete image.
        complete_label: Most probable class of the complete image.
        squares: Corners of the squares in the network's input.
        activity: Activity with a square hidden.
        probability: Probability of the class.
        label: Index of the most probable class.
        activity_spread: Standard deviation of the activity between shifted grids; None if not computed.
        probability_spread: The same of the probability.
        other_activity: Activity with the other fill; None if not computed.
        other_probability: Probability with the other fill.
        shown: The image, (H, W, 3) in [0, 1]; None if the network's input is not an image.
        worst: The image with the square at the place where the probability, or the activity, is lowest.
    """

    name: str
    projection: Projection
    one_unit: bool
    class_index: int | None
    complete_activity: float
    complete_probability: float | None
    complete_label: int | None
    squares: Squares
    activity: Floats
    probability: Floats | None
    label: Labels | None
    activity_spread: Floats | None
    probability_spread: Floats | None
    other_activity: Floats | None
    other_probability: Floats | None
    shown: npt.NDArray[np.float32] | None
    worst: npt.NDArray[np.float32] | None

    @property
    def unit(self) -> Unit:
        """The projected unit; its channel is measured."""
        return self.projection.units[0]

    @property
    def activity_agreement(self) -> float | None:
        """Rank correlation of the activity with that of the other fill; None if it cannot be computed."""
        return rank_correlation(self.activity, self.other_activity)

    @property
    def probability_agreement(self) -> float | None:
        """Rank correlation of the probability with that of the other fill."""
        return rank_correlation(self.probability, self.other_probability)

    @property
    def sure_activity(self) -> npt.NDArray[np.bool_] | None:
        """Places at which the activity changes by more than twice its standard deviation between grids."""
        return _sure(self.activity, self.complete_activity, self.activity_spread)

    @property
    def sure_probability(self) -> npt.NDArray[np.bool_] | None:
        """Places at which the probability changes by more than twice its standard deviation between grids."""
        return _sure(self.probability, self.complete_probability, self.probability_spread)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the numbers as NumPy arrays.

        Returns:
            ``activity`` and ``probability`` (rows, columns), ``label`` (rows, columns) int64, ``y`` (rows,)
            and ``x`` (columns,): upper left corners of the squares in the network's input, ``side`` and
            ``channel``. Without classes, ``probability`` is NaN and ``label`` is -1. ``activity_spread``,
            ``probability_spread``, ``other_activity`` and ``other_probability`` only if computed.
        """
        shape = self.squares.shape
        checks = {
            name: value
            for name in ("activity_spread", "probability_spread", "other_activity", "other_probability")
            if (value := getattr(self, name)) is not None
        }
        return {
            "activity": self.activity,
            "probability": np.full(shape, np.nan) if self.probability is None else self.probability,
            "label": np.full(shape, -1) if self.label is None else self.label,
            "y": np.array(self.squares.y),
            "x": np.array(self.squares.x),
            "channel": np.array(self.unit.channel),
            "side": np.array(self.squares.side),
            "class": np.array(-1 if self.class_index is None else self.class_index),
            "complete_activity": np.array(self.complete_activity),
            "complete_probability": np.array(
                np.nan if self.complete_probability is None else self.complete_probability
            ),
            **checks,
        }

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        lowest = np.unravel_index(int(self.activity.argmin()), self.activity.shape)
        found = {
            "image": self.name,
            "channel": self.unit.channel,
            "unit": [self.unit.channel, self.unit.y, self.unit.x] if self.one_unit else None,
            "activity": self.complete_activity,
            "lowest_activity": {"value": float(self.activity.min()), **self._at(lowest)},
            "class": _named(self.class_index, classes),
            "top_class": _named(self.complete_label, classes),
            "agreement": {"activity": self.activity_agreement, "probability": self.probability_agreement},
            "side": self.squares.side,
        }
        if self.probability is not None and self.label is not None:
            place = np.unravel_index(int(self.probability.argmin()), self.probability.shape)
            found["probability"] = self.complete_probability
            found["lowest_probability"] = {
                "value": float(self.probability.min()),
                **self._at(place),
                "top_class": _named(int(self.label[place]), classes),
            }
        return found

    def _at(self, place: Any) -> dict[str, int]:
        return {"y": self.squares.y[int(place[0])], "x": self.squares.x[int(place[1])]}


def class_name(index: int, classes: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has no name."""
    return classes[index] if index < len(classes) else f"class {index}"


def _named(index: int | None, classes: Sequence[str]) -> str | None:
    return None if index is None else class_name(index, classes)


def rank_correlation(one: Floats | None, other: Floats | None) -> float | None:
    """Return Spearman's rank correlation of two maps; None if one is missing or constant."""
    if one is None or other is None:
        return None
    from scipy.stats import rankdata

    a, b = rankdata(one.ravel()), rankdata(other.ravel())
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _sure(
    values: Floats | None, complete: float | None, spread: Floats | None
) -> npt.NDArray[np.bool_] | None:
    if values is None or complete is None or spread is None:
        return None
    sure: npt.NDArray[np.bool_] = np.abs(values - complete) > SURE * spread + ROUNDING * abs(complete)
    return sure
