"""Images of an experiment: how a manifest names them, and how they are opened again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from deconvviz.errors import ManifestError
from deconvviz.experiments.named_images import NamedImage, named_images
from deconvviz.files import place_of
from deconvviz.image_sources import reopen
from deconvviz.images.described import described_file
from deconvviz.images.image import InputImage, as_image
from deconvviz.printable_names import printable
from deconvviz.projection import pixel_digest
from deconvviz.scenes import scene


@dataclass(frozen=True)
class UsedImage:
    """One image; `pixels` is the digest of its pixels, None for a prepared tensor."""

    name: str
    pixels: str | None
    path: Path | None
    seed: int | None  # of a scene

    @classmethod
    def of(cls, named: NamedImage, opened: Any) -> UsedImage:
        """Return the entry of an image that was opened."""
        pixels = pixel_digest(opened.rgb) if isinstance(opened, InputImage) else None
        seed = None if named.scene is None else named.scene().seed
        return cls(named.name, pixels, named.path, seed)


@dataclass
class UsedImages:
    """The images of one run, in their order. `source` describes the source, if they are from one."""

    source: Mapping[str, Any] | None = None
    images: list[UsedImage] = field(default_factory=list)

    @classmethod
    def starting(cls, images: list[NamedImage]) -> UsedImages:
        """Return an empty list for a run over these images."""
        source = images[0].source if images else None
        return cls(None if source is None else source.describe())

    def add(self, named: NamedImage, opened: Any) -> None:
        """Add an image that was opened and used."""
        self.images.append(UsedImage.of(named, opened))

    def to_json(self) -> dict[str, Any]:
        """Return the entries ``pictures`` and ``source`` of a manifest, without paths."""
        return {
            "pictures": [{"name": one.name, "pixels": one.pixels, "scene": one.seed} for one in self.images],
            "source": self.source and {key: value for key, value in self.source.items() if key != "place"},
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths for a manifest in a folder, with the keys of `to_json`."""
        pictures = [{} if one.path is None else place_of(one.path, folder) for one in self.images]
        return {"pictures": pictures, **({"source": {"place": self.source["place"]}} if self.source else {})}


def images_again(stored: Mapping[str, Any], manifest: Path) -> list[NamedImage]:
    """Return the images of a manifest. An image raises ManifestError if it is opened and its pixels differ.

    Raises:
        ManifestError: If an image is missing, or was in memory.
        SourceError: If the source is missing or has changed.
    """
    if not stored.get("source"):
        return [_with_check(_again(one, manifest), one["pixels"], manifest) for one in stored["pictures"]]
    expected = {one["name"]: one["pixels"] for one in stored["pictures"]}
    images = named_images(reopen(stored["source"]))
    return [_with_check(one, expected.get(one.name), manifest) for one in images]


def _with_check(image: NamedImage, expected: str | None, manifest: Path) -> NamedImage:
    return replace(image, open=partial(_checked, image, expected, manifest))


def _again(one: Mapping[str, Any], manifest: Path) -> NamedImage:
    if one.get("scene") is not None:
        return named_images(scene(int(one["scene"])))[0]
    file = described_file({"path": None, **one}, manifest)
    return NamedImage(str(one["name"]), partial(as_image, file), path=file)


def _checked(image: NamedImage, expected: str | None, manifest: Path) -> Any:
    opened = image.open()
    if expected is not None and (not isinstance(opened, InputImage) or pixel_digest(opened.rgb) != expected):
        raise ManifestError(
            f"the pixels of {printable(image.name)} are not those of {manifest}: the image has changed, or "
            "this machine decodes it differently"
        )
    return opened
