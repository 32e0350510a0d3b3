"""Scenes that we draw, as a source: scenes:COUNT or scenes:COUNT@SEED."""

from __future__ import annotations

import re

from deconvviz.errors import SourceError
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.source import Source
from deconvviz.images.image import Picture
from deconvviz.scenes import scene

PREFIX = "scenes:"
MOST = 10_000_000
_FORM = re.compile(r"scenes:(\d{1,18})(?:@(\d{1,18}))?", re.ASCII)
_ID = "scene-"


class Scenes(Source):
    """`count` scenes with the seeds `seed`, `seed + 1` ...; a scene's id is its seed."""

    kind = "scenes"

    def __init__(self, count: int, seed: int = 0, place: str | None = None) -> None:
        """Raises SourceError."""
        if not 1 <= count <= MOST:
            raise SourceError(f"{count} scenes asked for: give a number from 1 to {MOST}")
        if seed < 0:
            raise SourceError(f"scenes from seed {seed} on asked for: a seed is a whole number from 0 on")
        names = Names(f"{_ID}{one:06d}" for one in range(seed, seed + count))
        super().__init__(place or f"{PREFIX}{count}@{seed}", names)

    def read(self, number: int) -> Picture:
        return Picture(scene(int(self.names[number].removeprefix(_ID))).image)


def open_scenes(place: str) -> Scenes:
    """Raises SourceError."""
    told = _FORM.fullmatch(place)
    if told is None:
        raise SourceError(
            f"{place!r} are no scenes: write scenes:COUNT or scenes:COUNT@SEED, as scenes:1000@7"
        )
    return Scenes(int(told[1]), int(told[2] or 0), place)
