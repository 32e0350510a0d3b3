"""How alike the projections of other units are, at the places of those that a figure shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

ALIKE = 0.8
"""Above this correlation, projections are called alike."""


@dataclass(frozen=True)
class PlaceLikeness:
    """Likeness of the projections of different units at the same place of an image.

    Attributes:
        value: Absolute correlation of the projections of two units of one place: the median over the pairs of
            a place, then over places. 1 means that all are alike.
        places: Number of places.
        units: Number of units that were compared, drawn ones and others.
    """

    value: float
    places: int
    units: int

    @property
    def alike(self) -> bool:
        """Whether the projections are alike."""
        return self.value > ALIKE

    @property
    def foot(self) -> str:
        """Words for the foot of a figure; empty if the projections are not alike."""
        return f"other units here look alike: median correlation {self.value:.2f}" if self.alike else ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with the keys that manifests use."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> PlaceLikeness | None:
        """Return the likeness of a manifest. None if it has none, as in older manifests."""
        if stored is None:
            return None
        return cls(float(stored["value"]), int(stored["places"]), int(stored["units"]))
