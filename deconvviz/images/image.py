"""A picture as networks want it: upright, opaque, 8-bit RGB; from a file, a Pillow image or an array."""

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
    COMPLAINTS,
    check_size,
    decode,
    decode_stream,
    load_whole,
    packing,
    upright,
)
from deconvviz.images.rgb import Colour, to_rgb
from deconvviz.paths import spoken
from deconvviz.printable_names import printable_path

MAX_PIXELS = 100_000_000
WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class InputImage:
    """`rgb` is (H, W, 3) uint8; `notes` say what was done to get there; `path` is None for no file."""

    rgb: npt.NDArray[np.uint8]
    path: Path | None = None
    notes: tuple[str, ...] = ()
    name: str = ""  # of an image without a path, if it has one

    def __repr__(self) -> str:
        height, width = self.rgb.shape[:2]
        name = printable_path(self.path.name) if self.path else self.name or "in memory"
        return ", ".join([f"InputImage({name}, {width} x {height}", *self.notes]) + ")"


def open_image(
    path: str | os.PathLike[str], *, background: Colour = WHITE, max_pixels: int | None = None
) -> InputImage:
    """A picture file; transparency is laid on `background`. Only the whole picture will do.

    No more than `max_pixels` are opened: by default as many as the environment variable DECONVVIZ_MAX_PIXELS
    says, or 100 megapixels. Raises ImageError.
    """
    sheet, limit = _background(background), _limit(max_pixels)
    image, packed, done = decode(path if isinstance(path, str) else Path(path), limit)
    rgb, converted = to_rgb(image, packed, sheet, str(path))
    return InputImage(rgb, Path(path), (*done, *converted))


def read_image(
    data: bytes | BinaryIO, name: str, *, background: Colour = WHITE, max_pixels: int | None = None
) -> InputImage:
    """`open_image` for the bytes of a file, or a stream of them that can seek; messages call it `name`."""
    sheet, limit = _background(background), _limit(max_pixels)
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    image, packed, done = decode_stream(stream, name, limit)
    rgb, converted = to_rgb(image, packed, sheet, name)
    return InputImage(rgb, None, (*done, *converted))


def as_image(
    given: InputImage | Image.Image | npt.NDArray[Any] | str | os.PathLike[str],
    *,
    background: Colour = WHITE,
    max_pixels: int | None = None,
) -> InputImage:
    """A picture from whatever holds one: a path, a Pillow image, an array (H, W, 3) or (H, W) of uint8.

    What is given is not changed. Raises ImageError.
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
        f"no picture in a {type(given).__name__}: give a path, a PIL image, or a uint8 array (H, W, 3)"
    )


def _from_pillow(image: Image.Image, background: Colour, limit: int) -> InputImage:
    name = getattr(image, "filename", "") or None
    path = Path(os.fsdecode(name)) if name else None
    told = str(path or "the PIL image")
    check_size(image.size, limit, told)
    packed = packing(image)
    try:
        load_whole(image)
    except COMPLAINTS as reason:
        raise ImageError(f"{told} cannot be decoded: {spoken(reason)}") from reason
    turned, notes = upright(image)
    rgb, converted = to_rgb(turned, packed, background, told)
    return InputImage(rgb, path, (*notes, *converted))


def _from_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    shape = f"an array {array.shape} of {array.dtype}"
    if array.dtype != np.uint8:
        raise ImageError(f"{shape} is no picture: give uint8 in 0 .. 255, (H, W, 3) or (H, W)")
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] != 3:
        first = ": its channels stand first, give array.transpose(1, 2, 0)"
        hint = first if array.ndim == 3 and array.shape[0] == 3 else ": give (H, W, 3) or (H, W)"
        raise ImageError(f"{shape} is no picture{hint}")
    if array.size == 0:
        raise ImageError(f"{shape} has no pixels")
    return np.array(array, order="C")


def _background(colour: Colour) -> Colour:
    values = tuple(colour)
    if len(values) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in values):
        raise ImageError(f"{colour!r} is no background: give red, green and blue from 0 to 255")
    return values


def _limit(max_pixels: int | None) -> int:
    told = os.environ.get("DECONVVIZ_MAX_PIXELS", "").strip()
    if max_pixels is None and told:
        try:
            max_pixels = int(told)
        except ValueError as reason:
            raise ImageError(
                f"DECONVVIZ_MAX_PIXELS={told!r} is no number of pixels: give one such as {MAX_PIXELS}"
            ) from reason
    if max_pixels is not None and max_pixels < 1:
        raise ImageError(f"at most {max_pixels} pixels leaves no picture: give a number above 0")
    return MAX_PIXELS if max_pixels is None else max_pixels
