"""Progress of a search and its current bottleneck."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from deconvviz.dataset_search.checkpoint import State


@dataclass
class Progress:
    """Progress of a search and the speed of its two parts, reading images and running the network.

    Attributes:
        total: Number of images in the source.
        done: Number of processed images, including those of an earlier run that was resumed.
        skipped: Number of images that could not be used.
        read: Number of images processed in this run.
        readers: Number of images that are read at the same time.
        networks: Number of copies of the network.
        reading: Seconds for reading, summed over all readers.
        looking: Seconds in the network, summed over all copies.
        begun: Start of this run, a value of `time.monotonic`.
    """

    total: int
    done: int = 0
    skipped: int = 0
    read: int = 0
    readers: int = 1
    networks: int = 1
    reading: float = 0.0
    looking: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Images per second of the whole search."""
        return self.read / max(time.monotonic() - self.begun, 1e-9)

    @property
    def reading_rate(self) -> float:
        """Images per second that the readers can read."""
        return self.read * self.readers / max(self.reading, 1e-9)

    @property
    def network_rate(self) -> float:
        """Images per second that the copies of the network can process."""
        return self.read * self.networks / max(self.looking, 1e-9)

    @property
    def left(self) -> float:
        """Estimated seconds until the end; NaN before the first batch."""
        return (self.total - self.done) / self.rate if self.read else float("nan")

    @property
    def limit(self) -> str:
        """Slower part of the search: ``reading`` or ``the network``."""
        return "reading" if self.reading_rate < self.network_rate else "the network"

    def step(self, state: State, images: int, reading: float, looking: float) -> None:
        """Add the images of one batch, with the seconds for reading them and in the network."""
        self.done, self.skipped = state.seen, len(state.skipped)
        self.read += images
        self.reading += reading
        self.looking += looking


Report: TypeAlias = Callable[[Progress], None]
