"""Read files, Pillow images and arrays as input images: upright, opaque, 8-bit RGB."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from deconvviz.errors import ImageError
from deconvviz.images.decoding import (
    DECODER_ERRORS,
    check_size,
    decode,
    decode_stream,
    load_whole,
    packing,
    upright,
)
from deconvviz.images.reduced import Reduced, Reduction
from deconvviz.images.rgb import Colour, to_rgb
from deconvviz.paths import reason_of
from deconvviz.printable_names import printable_path
from deconvviz.wording import with_article

MAX_PIXELS = 100_000_000
WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class InputImage:
    """Image as (H, W, 3) uint8, with notes on how it was converted; `path` is None if it is not a file.

    `reduced` says where the whole image lies in `rgb` if it was decoded at a fraction of its size.
    """

    rgb: npt.NDArray[np.uint8]
    path: Path | None = None
    notes: tuple[str, ...] = ()
    name: str = ""  # optional name of an image without a path
    reduced: Reduced | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole image."""
        return (self.rgb.shape[1], self.rgb.shape[0]) if self.reduced is None else self.reduced.size

    def __repr__(self) -> str:
        width, height = self.size
        name = printable_path(self.path.name) if self.path else self.name or "in memory"
        return ", ".join([f"InputImage({name}, {width} x {height}", *self.notes]) + ")"


def open_image(
    path: str | os.PathLike[str],
    *,
    background: Colour = WHITE,
    max_pixels: int | None = None,
    reduction: Reduction | None = None,
) -> InputImage:
    """Return the image in a file, which must be complete. Transparency is blended with `background`.

    `max_pixels` is the largest image that is opened: by default the value of the environment variable
    DECONVVIZ_MAX_PIXELS, or 100 megapixels. `reduction` says by how much a JPEG is reduced while it is
    decoded; None decodes it whole. Raises ImageError.
    """
    sheet, limit = _background(background), _limit(max_pixels)
    done = decode(path if isinstance(path, str) else Path(path), limit, reduction)
    rgb, converted = to_rgb(done.image, done.packed, sheet, str(path))
    return InputImage(rgb, Path(path), (*done.notes, *converted), reduced=done.reduced)


def read_image(
    data: bytes | BinaryIO,
    name: str,
    *,
    background: Colour = WHITE,
    max_pixels: int | None = None,
    reduction: Reduction | None = None,
) -> InputImage:
    """Return the same as `open_image` for bytes or a seekable stream, which messages call `name`."""
    sheet, limit = _background(background), _limit(max_pixels)
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    done = decode_stream(stream, name, limit, reduction)
    rgb, converted = to_rgb(done.image, done.packed, sheet, name)
    return InputImage(rgb, None, (*done.notes, *converted), reduced=done.reduced)


def as_image(
    given: InputImage | Image.Image | npt.NDArray[Any] | str | os.PathLike[str],
    *,
    background: Colour = WHITE,
    max_pixels: int | None = None,
) -> InputImage:
    """Return the image in a path, a Pillow image, or a uint8 array (H, W, 3) or (H, W).

    The argument is not changed. Raises ImageError.
    """
    if isinstance(given, InputImage):
        return given
    if isinstance(given, str | os.PathLike):
        return open_image(given, background=background, max_pixels=max_pixels)
    if isinstance(given, Image.Image):
        return _from_pillow(given, _background(background), _limit(max_pixels))
    if isinstance(given, np.ndarray):
        return InputImage(_from_array(given))
    raise ImageError(
        f"{with_article(type(given).__name__)} is not an image: give a path, a PIL image, or a uint8 array "
        "(H, W, 3)"
    )


def _from_pillow(image: Image.Image, background: Colour, limit: int) -> InputImage:
    file = getattr(image, "filename", "") or None
    path = Path(os.fsdecode(file)) if file else None
    name = str(path or "the PIL image")
    check_size(image.size, limit, name)
    packed = packing(image)
    try:
        load_whole(image)
    except DECODER_ERRORS as reason:
        raise ImageError(f"{name} cannot be decoded: {reason_of(reason)}") from reason
    turned, notes = upright(image)
    rgb, converted = to_rgb(turned, packed, background, name)
    return InputImage(rgb, path, (*notes, *converted))


def _from_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    shape = f"an array {array.shape} of {array.dtype}"
    if array.dtype != np.uint8:
        raise ImageError(f"{shape} is not an image: give uint8 in 0 .. 255, (H, W, 3) or (H, W)")
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] != 3:
        first = "its channels come first. Give array.transpose(1, 2, 0)"
        hint = first if array.ndim == 3 and array.shape[0] == 3 else "give (H, W, 3) or (H, W)"
        raise ImageError(f"{shape} is not an image: {hint}")
    if array.size == 0:
        raise ImageError(f"{shape} has no pixels")
    return np.array(array, order="C")


def _background(colour: Colour) -> Colour:
    values = tuple(colour)
    if len(values) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in values):
        raise ImageError(f"invalid background {colour!r}: give red, green and blue from 0 to 255")
    return values


def _limit(max_pixels: int | None) -> int:
    setting = os.environ.get("DECONVVIZ_MAX_PIXELS", "").strip()
    if max_pixels is None and setting:
        try:
            max_pixels = int(setting)
        except ValueError as reason:
            raise ImageError(
                f"DECONVVIZ_MAX_PIXELS={setting!r} is not a number of pixels: set it to a number such as "
                f"{MAX_PIXELS}"
            ) from reason
    if max_pixels is not None and max_pixels < 1:
        raise ImageError(f"the limit of {max_pixels} pixels allows no image: give a number above 0")
    return MAX_PIXELS if max_pixels is None else max_pixels
