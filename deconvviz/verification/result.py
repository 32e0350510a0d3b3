"""Result of a verification: how much projections differ from those of a second, independent computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ALLOWED = {"float64": 1e-10, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest allowed difference for each dtype of a network."""

CAPTUM, AUTOGRAD = "captum", "autograd"


@dataclass(frozen=True)
class Verification:
    """Difference between K projections and the same projections, computed by another library or autograd.

    Attributes:
        route: How they were computed a second time: ``captum``, or ``autograd`` with the gradients of some
            calls replaced (`deconvviz.verification`).
        differences: For each unit, the largest absolute difference of all pixels, divided by the largest
            absolute value of the second projection.
        allowed: Largest allowed difference.
    """

    route: str
    differences: tuple[float, ...]
    allowed: float

    @property
    def units(self) -> int:
        """Number of verified projections."""
        return len(self.differences)

    @property
    def largest_difference(self) -> float:
        """Largest of all differences; 0 without units."""
        return max(self.differences, default=0.0)

    @property
    def passed(self) -> bool:
        """Whether no difference is larger than allowed. A difference that is NaN is too large."""
        return all(difference <= self.allowed for difference in self.differences)

    @property
    def worst(self) -> int:
        """Number of the unit with the largest difference."""
        broken = [number for number, one in enumerate(self.differences) if one != one]
        return broken[0] if broken else self.differences.index(self.largest_difference)

    @classmethod
    def together(cls, several: Sequence[Verification]) -> Verification:
        """Return one verification for all units of several."""
        return cls(
            route=", ".join(dict.fromkeys(route for one in several for route in one.route.split(", "))),
            differences=tuple(difference for one in several for difference in one.differences),
            allowed=max((one.allowed for one in several), default=0.0),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the verification as plain JSON values, with the keys that manifests use."""
        return {"route": self.route, "largest_difference": self.largest_difference, "units": self.units}
