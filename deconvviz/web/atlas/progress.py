"""Progress of an atlas."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass
class AtlasProgress:
    """Progress of an atlas in units, that is, channels.

    Attributes:
        total: Number of units.
        done: Number of projected units, including those of an earlier run that was resumed.
        made: Number of units projected in this run; a chunk that is not finished counts in part.
        pages: Number of units whose pages are written.
        projecting: Seconds spent on projecting, summed over all processes.
        other: Seconds spent on everything else, such as encoding images and writing files.
        begun: Start of this run, a value of `time.monotonic`.
    """

    total: int
    done: float = 0
    made: float = 0
    pages: int = 0
    projecting: float = 0.0
    other: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.made / max(time.monotonic() - self.begun, 1e-9)

    @property
    def left(self) -> float:
        """Estimated seconds until all units are projected; NaN at the beginning."""
        return (self.total - self.done) / self.rate if self.made else float("nan")

    @property
    def other_share(self) -> float:
        """Share of the time that was not spent on projecting."""
        return self.other / max(self.projecting + self.other, 1e-9)


Report: TypeAlias = Callable[[AtlasProgress], None]
