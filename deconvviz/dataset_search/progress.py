"""How far a search is, and which part of it keeps the others waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from deconvviz.dataset_search.checkpoint import State


@dataclass
class Progress:
    """How far a search is, and how fast its parts are."""

    total: int  # pictures
    done: int = 0  # those of an earlier, resumed run included
    skipped: int = 0
    read: int = 0  # pictures of this run
    readers: int = 1  # that read pictures side by side
    networks: int = 1  # that look at them side by side
    reading: float = 0.0  # seconds that all readers took together
    looking: float = 0.0  # seconds that all networks took together
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Pictures a second, all in all."""
        return self.read / max(time.monotonic() - self.begun, 1e-9)

    @property
    def reading_rate(self) -> float:
        """Pictures a second that the readers could read."""
        return self.read * self.readers / max(self.reading, 1e-9)

    @property
    def network_rate(self) -> float:
        """Pictures a second that the networks could look at."""
        return self.read * self.networks / max(self.looking, 1e-9)

    @property
    def left(self) -> float:
        """Seconds."""
        return (self.total - self.done) / self.rate if self.read else float("nan")

    @property
    def limit(self) -> str:
        """Which part keeps the other waiting: ``reading`` or ``the network``."""
        return "reading" if self.reading_rate < self.network_rate else "the network"

    def step(self, state: State, pictures: int, reading: float, looking: float) -> None:
        """So many pictures more, and what they took in seconds."""
        self.done, self.skipped = state.seen, len(state.skipped)
        self.read += pictures
        self.reading += reading
        self.looking += looking


Report: TypeAlias = Callable[[Progress], None]
