"""Messages to the front end: a JSON body and binary buffers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 32767  # of int16


@dataclass(frozen=True)
class Message:
    """One message. `body` has plain JSON values; `buffers` are numbered in the order of the list."""

    body: dict[str, Any]
    buffers: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Quantised:
    """Signed values as int16: value = integer * step. The rounding error is at most half a step."""

    data: bytes  # int16, little-endian, (h, w) or (h, w, 3)
    shape: tuple[int, ...]
    step: float

    def to_json(self) -> dict[str, Any]:
        """Return what the front end needs besides `data`."""
        return {"shape": list(self.shape), "step": self.step}

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Quantised:
        """Quantise finite values; the largest absolute value becomes the largest integer."""
        numbers = np.asarray(values, np.float64)
        largest = float(np.abs(numbers).max(initial=0))
        step = largest / _LARGEST
        whole = np.zeros(numbers.shape) if step == 0 else np.rint(numbers / step)
        return cls(whole.astype("<i2").tobytes(), numbers.shape, step)
