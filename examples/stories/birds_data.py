"""Pictures and masks for `birds.py`: drawn scenes, or a folder of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

import deconvviz as dv
from deconvviz.errors import SourceError
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import InputImage, open_image
from deconvviz.images.preprocessing import Preprocessing
from stories.scene_data import Pictures, bird_scenes

# minivgg was trained on seeds from 1,000,000,000, so no picture here is one of its training pictures.
TRAINING_SEED, VALIDATION_SEED, FRESH_SEED = 20_000_000, 30_000_000, 40_000_000
VALIDATION, FRESH = 200, 600
QUICK_VALIDATION, QUICK_FRESH = 8, 24
LEAST = 10  # number of photographs
SUFFIXES = (".jpg", ".jpeg", ".png")
WHITE = 128  # grey value from which on a pixel of a mask belongs to the object


@dataclass(frozen=True)
class Split:
    """Pictures for training, for the choice of settings, and for the numbers that are reported."""

    training: Pictures
    validation: Pictures
    fresh: Pictures


def drawn(count: int, size: int, *, quick: bool) -> Split:
    """Return drawn scenes. Every second one shows a bird."""
    return Split(
        bird_scenes(TRAINING_SEED, count, size),
        bird_scenes(VALIDATION_SEED, QUICK_VALIDATION if quick else VALIDATION, size),
        bird_scenes(FRESH_SEED, QUICK_FRESH if quick else FRESH, size),
    )


def photographs(folder: Path, size: int) -> Split:
    """Return the photographs of a folder, in the order of their names. Two of each five are not trained on.

    Raises:
        SourceError: If a picture or its mask is missing, their sizes differ, there are too few, or no mask
            shows an object.
        ImageError: If a file is not an image.
    """
    pairs = _pairs(folder)
    images = np.empty((len(pairs), size, size, 3), np.uint8)
    masks = np.empty((len(pairs), size, size), np.bool_)
    for i, (image, mask) in enumerate(pairs):
        images[i], masks[i] = _read(image, mask, size)
    every = Pictures(tuple(image.stem for image, _ in pairs), images, masks)
    if not every.positive.any():
        raise SourceError(
            f"no mask in {folder / 'masks'} shows an object: its pixels must be white (grey value {WHITE} or "
            "more)"
        )
    place = np.arange(len(every)) % 5
    split = Split(every.some(place < 3), every.some(place == 3), every.some(place == 4))
    if not split.fresh.positive.any():
        names = ", ".join(split.fresh.names[:3])
        raise SourceError(
            f"no mask of the pictures that are kept for the numbers shows an object ({names}): rename the "
            "pictures, so that each fifth in the order of their names shows one"
        )
    return split


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    for needed in (folder / "images", folder / "masks"):
        if not needed.is_dir():
            raise SourceError(
                f"no folder {needed}: --data needs a folder with images/NAME.jpg (or .png) and masks/NAME.png"
            )
    there = [path for path in (folder / "images").iterdir() if path.suffix.lower() in SUFFIXES]
    images = sorted(there, key=lambda path: path.stem)
    if twice := [one.stem for one, other in pairwise(images) if one.stem == other.stem]:
        raise SourceError(f"two images in {folder / 'images'} are named {twice[0]}: names must be unique")
    pairs = [(image, folder / "masks" / f"{image.stem}.png") for image in images]
    lacking = [mask.name for _, mask in pairs if not mask.is_file()]
    if lacking:
        raise SourceError(
            f"{len(lacking)} of {len(pairs)} images in {folder / 'images'} have no mask: {folder / 'masks'} "
            f"needs {', '.join(lacking[:3])}{' and others' if len(lacking) > 3 else ''}"
        )
    if len(pairs) < LEAST:
        raise SourceError(
            f"{len(pairs)} images with a mask in {folder}: give at least {LEAST}, because two of five are "
            "not trained on"
        )
    return pairs


def _read(image: Path, mask: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its mask, resized and cropped alike."""
    rgb, grey = open_image(image).rgb, open_image(mask).rgb
    if rgb.shape != grey.shape:
        sizes = [f"{one.shape[1]} x {one.shape[0]}" for one in (rgb, grey)]
        raise SourceError(
            f"{image} has {sizes[0]} px and {mask} has {sizes[1]}: a mask must have the size of its image"
        )
    plain = Preprocessing(size, size, (0.0,) * 3, (1.0,) * 3)
    nearest = Preprocessing(size, size, (0.0,) * 3, (1.0,) * 3, interpolation="nearest")
    values = plain.apply(rgb).mul(255).round().byte().permute(1, 2, 0).numpy()
    return values, nearest.apply(grey)[0].mul(255).round().ge(WHITE).numpy()


class PicturesInMemory(dv.Source):
    """Pictures as a source of images for searches."""

    kind = "pictures"

    def __init__(self, pictures: Pictures) -> None:
        super().__init__("pictures that training never saw", Names(pictures.names))
        self._pictures = pictures

    def read(self, number: int) -> InputImage:
        return InputImage(self._pictures.images[number])
