"""Projected peaks on disk, until all peaks of their channel are there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from deconvviz.web.atlas.tiles import KeptPeak


@dataclass(frozen=True, eq=False)
class Stored:
    """A peak whose arrays are in the file."""

    facts: KeptPeak  # with empty arrays
    start: int
    pixels: tuple[int, ...]  # shape
    patch: tuple[int, ...]


class Spool:
    """A temporary file of peaks. It has no name, so it ends with the process, also if that is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = 0

    @cached_property
    def _file(self) -> BinaryIO:
        """The file, made with its folder when the first peak arrives."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_file" in vars(self):
            self._file.close()

    def put(self, peak: KeptPeak) -> Stored:
        """Write the arrays of a peak."""
        pixels, patch = np.ascontiguousarray(peak.pixels, np.float32), np.ascontiguousarray(peak.patch)
        stored = Stored(
            replace(peak, pixels=pixels[:0], patch=patch[:0]), self._end, pixels.shape, patch.shape
        )
        self._file.seek(self._end)
        self._end += self._file.write(pixels.tobytes()) + self._file.write(patch.tobytes())
        return stored

    def get(self, stored: Stored) -> KeptPeak:
        """Read a peak."""
        self._file.seek(stored.start)
        count, more = int(np.prod(stored.pixels)), int(np.prod(stored.patch))
        pixels = np.frombuffer(self._file.read(4 * count), np.float32).reshape(stored.pixels)
        patch = np.frombuffer(self._file.read(more), np.uint8).reshape(stored.patch)
        return replace(stored.facts, pixels=pixels, patch=patch)
