"""Measures and example pictures of one transformation, and what figure and sentences need of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deconvviz.experiments.invariance.canvas import Floats
from deconvviz.experiments.invariance.distances import MEASURES
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo

EXAMPLES = 5
"""Number of transformed pictures in a row of the figure, as in the paper."""


@dataclass(frozen=True, eq=False)
class Varied:
    """Measures of one transformation; stacked, with a first axis for I images.

    Attributes:
        measures: (A, L, 4) for A amounts and L layers: distance, normalised, cosine, equivariance.
        probability: (A,) probability of the class; NaN without classes.
        outside: (A,) share of pixels that are not in the image file.
    """

    measures: Floats
    probability: Floats
    outside: Floats

    @classmethod
    def empty(cls, amounts: int, layers: int) -> Varied:
        """Return measures that are not known yet."""
        unknown = np.full((amounts, layers, len(MEASURES)), np.nan)
        return cls(unknown, np.full(amounts, np.nan), np.zeros(amounts))

    @classmethod
    def stack(cls, several: Sequence[Varied]) -> Varied:
        """Return the measures of several images, with the images on the first axis."""
        return cls(*(np.stack([getattr(one, name) for one in several]) for name in
                     ("measures", "probability", "outside")))  # fmt: skip

    def set_identity(self, place: int, probability: float | None) -> None:
        """Set the measures of an amount that does not change the picture.

        The equivariance of a layer stays unknown if it is unknown for all other amounts.
        """
        known = np.isfinite(np.delete(self.measures[..., -1], place, axis=0)).any(axis=0)  # (L,)
        self.measures[place] = 0.0
        self.measures[place, ~known, -1] = np.nan
        self.probability[place] = np.nan if probability is None else probability


@dataclass(frozen=True, eq=False)
class Example:
    """A transformed picture: the number of its image, the amount, and its colours (H, W, 3) from 0 to 1."""

    image: int
    amount: float
    colours: Floats


class Measured(Protocol):
    """What figure and sentences need of an `Invariance`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    @property
    def transforms(self) -> tuple[str, ...]: ...
    @property
    def amounts(self) -> Mapping[str, Floats]: ...
    @property
    def images(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> tuple[int, ...]: ...
    @property
    def values(self) -> Mapping[str, Varied]: ...
    @property
    def examples(self) -> Mapping[str, tuple[Example, ...]]: ...
    @property
    def border(self) -> str: ...
    def class_name(self, image: int) -> str: ...
    def measure(self, name: str, transform: str) -> Floats: ...
