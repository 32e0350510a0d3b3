"""Masks that mark some positions of an image."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from deconvviz.errors import ImageError
from deconvviz.images.decoding import DECODER_ERRORS
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.paths import existing_file, reason_of
from deconvviz.printable_names import printable_path

Mask: TypeAlias = npt.NDArray[np.bool_]
"""(rows, columns), True inside."""


def read_mask(path: str | os.PathLike[str]) -> Mask:
    """Return the mask in an image file or a .npy file: everything that is not black, or not 0, is inside.

    Raises ImageError.
    """
    file = existing_file(Path(path), ImageError, "mask")
    try:
        if file.suffix == ".npy":
            array = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as image:
                array = _values(image)
    except (*DECODER_ERRORS, ValueError, EOFError) as reason:
        raise ImageError(f"{printable_path(file)} cannot be read as a mask: {reason_of(reason)}") from reason
    return as_mask(array)


def _values(image: Image.Image) -> npt.NDArray[Any]:
    """Return the numbers of a mask: the indices of an image with a palette, without transparency."""
    without = {"RGBA": "RGB", "LA": "L", "PA": "P"}.get(image.mode)
    return np.asarray(image.convert(without) if without else image)


def as_mask(array: npt.NDArray[Any]) -> Mask:
    """Return where an array (rows, columns) or (rows, columns, colours) is not 0. Raises ImageError."""
    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf":
        raise ImageError(
            f"an array {array.shape} of {array.dtype} is not a mask: give numbers (rows, columns)"
        )
    inside: Mask = np.not_equal(array, 0)
    joined: Mask = inside if array.ndim == 2 else np.logical_or.reduce(inside, axis=2)
    return joined


def as_in_the_input(mask: Mask, preprocessing: Preprocessing) -> Mask:
    """Return the mask of an image, resized and cropped as the image is."""
    plain = replace(preprocessing, mean=(0.0,), std=(1.0,), interpolation="nearest")
    values = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    found: Mask = plain.apply(values)[0].numpy() > 0.5
    return found
