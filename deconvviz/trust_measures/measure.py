"""A measure of trust: a number with its interval, its baseline and its meaning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from deconvviz.trust_measures.statistics import Sample


@dataclass(frozen=True)
class Measure:
    """A number that says how far to trust a method.

    Attributes:
        value: The number; None if it cannot be computed.
        low: Lower limit of the 95 % interval (bootstrap over images, or over the units of a single one).
        high: Upper limit of the interval.
        baseline: The value that means "nothing"; None if there is none for these images.
        meaning: What the number is, in one line.
        source: Where the measure was published.
        units: Number of units.
        pictures: Number of images.
    """

    value: float | None
    low: float | None
    high: float | None
    baseline: float | None
    meaning: str
    source: str = ""
    units: int = 0
    pictures: int = 0

    @classmethod
    def of(
        cls, sample: Sample, baseline: float | None, meaning: str, source: str = "", *, seed: int = 0
    ) -> Measure:
        """Return the measure of a sample."""
        low, high = sample.interval(seed)
        return cls(sample.value, low, high, baseline, meaning, source, sample.units, sample.pictures)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
