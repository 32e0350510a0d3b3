"""Generated scenes as a source of images: scenes:COUNT or scenes:COUNT@SEED."""

from __future__ import annotations

import re
from functools import cached_property

from deconvviz.errors import SourceError
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.labels import Labels
from deconvviz.image_sources.source import Source
from deconvviz.images.image import InputImage
from deconvviz.paths import SCENES
from deconvviz.scenes import CLASSES, scene
from deconvviz.scenes.dice import SceneRng

MAX_SCENES = 10_000_000
_PATTERN = re.compile(r"scenes:(\d{1,18})(?:@(\d{1,18}))?", re.ASCII)
_ID = "scene-"


class Scenes(Source):
    """Source of `count` scenes with the seeds `seed`, `seed + 1`, ... The id of a scene contains its seed.

    The label of a scene is the name of its class.
    """

    kind = "scenes"

    def __init__(self, count: int, seed: int = 0, place: str | None = None) -> None:
        """Raises SourceError for a count or a seed out of range."""
        if not 1 <= count <= MAX_SCENES:
            raise SourceError(f"{count} scenes requested: give a number from 1 to {MAX_SCENES}")
        if seed < 0:
            raise SourceError(f"invalid seed {seed}: a seed must be 0 or more")
        names = Names(f"{_ID}{one:06d}" for one in range(seed, seed + count))
        super().__init__(place or f"{SCENES}{count}@{seed}", names)

    def read(self, number: int) -> InputImage:
        return InputImage(scene(_seed(self.names[number])).image)

    @cached_property
    def class_labels(self) -> Labels | None:
        # The class is the first number that `scene` draws; drawing the scene takes 300 times as long
        drawn = (SceneRng(_seed(name)).integer(0, len(CLASSES) - 1) for name in self.names)
        return Labels.of(CLASSES[number] for number in drawn)


def _seed(name: str) -> int:
    return int(name.removeprefix(_ID))


def open_scenes(place: str) -> Scenes:
    """Return the source that a text like scenes:1000@7 describes. Raises SourceError."""
    match = _PATTERN.fullmatch(place)
    if match is None:
        raise SourceError(
            f"{place!r} does not describe scenes: write scenes:COUNT or scenes:COUNT@SEED, for example "
            "scenes:1000@7"
        )
    return Scenes(int(match[1]), int(match[2] or 0), place)
