"""Random draws that read like sentences, on a bit generator whose stream numpy keeps fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


class Dice:
    """All randomness of one scene. Only uniform doubles are drawn: numpy promises least change for them."""

    def __init__(self, *seed: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.generator.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.generator.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.whole(0, len(items) - 1)]

    def field(self, *shape: int) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1)."""
        return self.generator.random(shape)
