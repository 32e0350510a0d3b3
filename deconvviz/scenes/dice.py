"""Random numbers for drawing a scene, from a bit generator whose stream NumPy keeps fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


class SceneRng:
    """Random number generator of one scene.

    It draws uniform doubles only: of all distributions, NumPy is least likely to change this one.
    """

    def __init__(self, *seed: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))

    def between(self, low: float, high: float) -> float:
        """Return a uniform number in [low, high)."""
        return low + (high - low) * float(self.generator.random())

    def integer(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return low + int(self.generator.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.generator.random() < probability)

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items, each with the same probability."""
        return items[self.integer(0, len(items) - 1)]

    def array(self, *shape: int) -> NDArray[np.float64]:
        """Return an array of uniform numbers in [0, 1)."""
        return self.generator.random(shape)
