"""Images of an experiment with their names, opened one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from deconvviz.errors import ImageError
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.drawn_scenes import Scenes
from deconvviz.images.image import InputImage, as_image
from deconvviz.network import Images
from deconvviz.paths import SCENES
from deconvviz.printable_names import path_to_text
from deconvviz.scenes import Scene, scene

Pictures: TypeAlias = "Images | Source | Scene | list[Scene] | list[NamedImage]"

_ARCHIVES = (".zip", ".tar", ".txt", ".lst")


@dataclass(frozen=True, eq=False)
class NamedImage:
    """One image.

    Attributes:
        name: File name or id.
        open: Return the image: an `InputImage`, or a prepared tensor (1, C, H, W).
        scene: Return the scene if the image is a generated one, else None.
        path: The file, if there is one.
        source: The source that the image is from, if any.
    """

    name: str
    open: Callable[[], Any]
    scene: Callable[[], Scene] | None = None
    path: Path | None = None
    source: Source | None = None


def named_images(images: Pictures) -> list[NamedImage]:
    """Return images with their names: those that `Network.record` accepts, scenes, or a source of images.

    Raises:
        ImageError: If there is no image.
        SourceError: If a source cannot be opened.
    """
    if isinstance(images, Source):
        return _of_source(images)
    if isinstance(images, (str, os.PathLike)) and _is_source(os.fspath(images)):
        return _of_source(open_source(images))
    several = list(images) if isinstance(images, (list, tuple)) else [images]
    if isinstance(images, Tensor) and images.dim() == 4:
        several = list(images.split(1))
    if not several:
        raise ImageError("no image was given")
    return [_of_image(image, number) for number, image in enumerate(several)]


def _is_source(place: str) -> bool:
    return place.startswith((SCENES, "hf:")) or os.path.isdir(place) or place.lower().endswith(_ARCHIVES)


def _of_source(source: Source) -> list[NamedImage]:
    return [_from_source(source, number) for number in range(len(source))]


def _from_source(source: Source, number: int) -> NamedImage:
    name = source.names[number]
    drawn = (lambda: scene(int(name.rpartition("-")[2]))) if isinstance(source, Scenes) else None
    return NamedImage(name, lambda: source.image(number), drawn, source=source)


def _of_image(image: Any, number: int) -> NamedImage:
    if isinstance(image, NamedImage):
        return image
    if isinstance(image, Scene):
        return NamedImage(f"scene-{image.seed:06d}", lambda: InputImage(image.image), lambda: image)
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        return NamedImage(path_to_text(path.name), lambda: as_image(image), path=path)
    if isinstance(image, Tensor):
        return NamedImage(f"input {number}", lambda: image)
    file = getattr(image, "path", None)
    name = path_to_text(file.name) if file else getattr(image, "name", "")
    return NamedImage(name or f"image {number}", lambda: as_image(image), path=file)
