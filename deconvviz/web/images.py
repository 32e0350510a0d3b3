"""Arrays of colours as image files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from deconvviz.web.page import data_uri

Colours: TypeAlias = npt.NDArray[Any]
"""(h, w, 3) floats from 0 to 1, or uint8."""


@dataclass(frozen=True, repr=False)
class EncodedImage:
    """Image file in memory."""

    data: bytes
    kind: str  # "png" or "webp"
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The file as a data URI."""
        return data_uri(f"image/{self.kind}", self.data)

    def __repr__(self) -> str:
        return f"EncodedImage({self.kind}, {self.width}x{self.height} px, {len(self.data):,} bytes)"


def lossless(colours: Colours) -> EncodedImage:
    """Return the smaller of a PNG and a lossless WebP file."""
    image = as_image(colours)
    files = {
        "png": _encoded(image, "PNG", optimize=True),
        "webp": _encoded(image, "WEBP", lossless=True, quality=60, method=4, exact=True),
    }
    kind = min(files, key=lambda name: len(files[name]))
    return EncodedImage(files[kind], kind, *image.size)


def lossy(colours: Colours, quality: int) -> EncodedImage:
    """Return a WebP file of a quality from 0 to 100."""
    image = as_image(colours)
    return EncodedImage(_encoded(image, "WEBP", quality=quality, method=4), "webp", *image.size)


def fitted(colours: Colours, side: int) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 whose longer side is at most `side` pixels. Small images are unchanged."""
    image = as_image(colours)
    share = side / max(image.size)
    if share < 1:
        width, height = (max(1, round(length * share)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)


def as_image(colours: Colours) -> Image.Image:
    """Return colours as an image with 8 bits for each channel."""
    values = np.asarray(colours)
    if values.dtype != np.uint8:
        values = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(values))


def _encoded(image: Image.Image, format: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **settings)
    return stream.getvalue()
