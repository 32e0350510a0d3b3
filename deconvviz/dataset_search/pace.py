"""How often the state of long work is written: seldom enough that it costs little time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Runs a function at most every `every` seconds, in at most 2% of the time.

    With `every=0` each call runs it. With `at_once` the first call runs it, too.
    """

    SHARE = 0.02

    def __init__(self, every: float, *, at_once: bool = False) -> None:
        self._every = every
        self._next = time.monotonic() + (0 if at_once else every)

    def __call__(self, write: Callable[[], None]) -> None:
        """Run the function if enough time has passed since the last run."""
        begun = time.monotonic()
        if begun < self._next:
            return
        write()
        took = time.monotonic() - begun
        self._next = begun + (max(self._every, took / self.SHARE) if self._every else 0)
