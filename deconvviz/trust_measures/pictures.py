"""Images that trust is measured on: images, a source of images, scenes, or the peaks of a search."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deconvviz.dataset_search.result import Search
from deconvviz.errors import ImageError, UnitError
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.drawn_scenes import Scenes
from deconvviz.images.image import InputImage, as_image
from deconvviz.layers import Layer
from deconvviz.network import Images
from deconvviz.paths import SCENES
from deconvviz.printable_names import path_to_text
from deconvviz.scenes import Scene, scene

Pictures: TypeAlias = "Images | Source | Search | Scene | Sequence[Scene]"

CHANNELS_OF_SEARCH = 20


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, opened when it is needed.

    Attributes:
        name: File name or id.
        open: Return the image: an `InputImage`, or a prepared tensor (1, C, H, W).
        scene: Return the scene if the image is a generated one, else None.
        unit: Channel, row and column of the unit whose place is examined; None chooses the strongest unit.
    """

    name: str
    open: Callable[[], Any]
    scene: Callable[[], Scene] | None = None
    unit: tuple[int, int | None, int | None] | None = None


@dataclass(frozen=True, eq=False)
class PictureList(Sequence[Picture]):
    """Images in a fixed order. None of them is opened yet."""

    pictures: tuple[Picture, ...]
    place: str  # where they come from, for the figure; empty for several images

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __getitem__(self, key: Any) -> Any:
        return self.pictures[key]


def pictures_of(images: Pictures, layer: Layer, *, limit: int | None = None, seed: int = 0) -> PictureList:
    """Return the images that a user gave.

    Args:
        images: Images as for `Network.record`, a folder or any other source of images, scenes
            (``scenes:20``), or a search.
        layer: The layer, for the peaks of a search.
        limit: Number of images, the first ones.
        seed: Seed for choosing the channels of a search.

    Raises:
        ImageError: If there is no image.
        SourceError: If a source cannot be opened.
        SearchError: If the layer was not searched.
        UnitError: If the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UnitError(f"a limit of {limit} leaves no image: give 1 or more")
    if isinstance(images, Search):
        found = _of_search(images, layer, CHANNELS_OF_SEARCH if limit is None else limit, seed)
    elif isinstance(images, Source):
        found = _of_source(images)
    elif isinstance(images, (str, os.PathLike)) and _is_source(os.fspath(images)):
        found = _of_source(open_source(images))
    else:
        found = _of_images(images)
    if not found.pictures:
        raise ImageError("no image was given")
    return PictureList(found.pictures[:limit], found.place)


def _is_source(place: str | bytes) -> bool:
    text = os.fsdecode(place)
    return text.startswith((SCENES, "hf:")) or os.path.isdir(text) or text.endswith((".zip", ".tar", ".txt"))


def _of_source(source: Source) -> PictureList:
    return PictureList(tuple(_from_source(source, number) for number in range(len(source))), source.place)


def _from_source(
    source: Source, number: int, unit: tuple[int, int | None, int | None] | None = None
) -> Picture:
    name = source.names[number]
    drawn = (lambda: scene(_seed_in(name))) if isinstance(source, Scenes) else None
    return Picture(name, lambda: source.image(number), drawn, unit)


def _seed_in(name: str) -> int:
    """Return the seed in the id of a scene, such as ``scene-000012``."""
    return int(name.rpartition("-")[2])


def _of_search(search: Search, layer: Layer, count: int, seed: int) -> PictureList:
    """Return the strongest image of some random channels that are not dead, with the unit of the peak."""
    found = []
    for channel in search.choose(layer, count, "random", seed):
        peak = search.top(layer, channel, 1)[0]
        number = search.source.names.index(peak.image_id)
        found.append(_from_source(search.source, number, (channel, peak.y, peak.x)))
    return PictureList(tuple(found), search.source.place)


def _of_images(images: Any) -> PictureList:
    several = list(images) if isinstance(images, (list, tuple)) else [images]
    if hasattr(images, "dim") and images.dim() == 4:
        several = list(images.split(1))  # a prepared tensor (B, C, H, W)
    found = tuple(_of_image(image, number) for number, image in enumerate(several))
    return PictureList(found, found[0].name if len(found) == 1 else "")


def _of_image(image: Any, number: int) -> Picture:
    if isinstance(image, Scene):
        return Picture(f"scene {image.seed}", lambda: InputImage(image.image), lambda: image)
    if isinstance(image, (str, os.PathLike)):
        return Picture(path_to_text(os.path.basename(os.fspath(image))), lambda: as_image(image))
    if hasattr(image, "dim"):
        return Picture(f"input {number}", lambda: image)
    return Picture(getattr(image, "name", "") or f"image {number}", lambda: as_image(image))
