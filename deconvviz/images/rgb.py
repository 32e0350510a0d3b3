"""Convert images of any mode to 8-bit RGB, with notes. Values are never stretched to the full range."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from deconvviz.errors import ImageError

RGB8 = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_NAMED = {(255, 255, 255): "white", (0, 0, 0): "black", (128, 128, 128): "mid-grey"}
_STEPS = {"L;2": 85, "L;4": 17}  # step between grey levels after Pillow scales 2 and 4 bits to 8


def to_rgb(image: Image.Image, packed: str, background: Colour, name: str) -> tuple[RGB8, list[str]]:
    """Return the pixels of a decoded image, (H, W, 3), and notes.

    `packed` is Pillow's raw mode of the file; error messages call the image `name`.
    """
    notes = []
    opacity = _opacity_of_one_colour(image, packed)
    if image.mode.startswith("I") or image.mode == "F":
        image, note = _eight_bits(image, name)
        notes.append(note)
    elif "16" in packed:
        notes.append("16-bit scaled to 8")
    elif image.mode in ("CMYK", "YCbCr", "HSV", "LAB"):
        notes.append(f"{image.mode} converted")
    if opacity is None and image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        opacity = image.getchannel("A")
    try:
        rgb = image.convert("RGB")
    except (ValueError, ImportError) as reason:  # LAB, if Pillow has no colour management
        raise ImageError(
            f"{name} has {image.mode} colours, which are not supported: save it as RGB"
        ) from reason
    if opacity is not None and opacity.getextrema() != (255, 255):
        sheet = Image.new("RGB", image.size, background)
        sheet.paste(rgb, mask=opacity)
        rgb = sheet
        notes.append(f"transparency blended with {_NAMED.get(background, background)}")
    return np.array(rgb), notes


def _opacity_of_one_colour(image: Image.Image, packed: str) -> Image.Image | None:
    """Return the opacity if one grey or colour of a PNG means transparent; None for other images.

    Pillow itself compares this colour with values of another scale.
    """
    clear: Any = image.info.get("transparency")
    if image.mode in ("1", "L", "I", "I;16") and isinstance(clear, int):
        grey = np.asarray(image)
        hidden = grey == (bool(clear) if image.mode == "1" else clear * _STEPS.get(packed, 1))
    elif image.mode == "RGB" and isinstance(clear, tuple) and len(clear) == 3:
        shift = 8 if "16" in packed else 0
        hidden = (np.asarray(image) == [value >> shift for value in clear]).all(axis=-1)
    else:
        return None
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))


def _eight_bits(image: Image.Image, name: str) -> tuple[Image.Image, str]:
    values = np.asarray(image)
    if image.mode == "F":
        return _from_floats(values, name)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} contains integers from {low} to {high}, whose brightness is not defined: save it with 8 "
            "or 16 bits"
        )
    if image.mode == "I" and high < 256 and image.format not in ("PNG", "PPM"):
        return _grey(values), "32-bit integers up to 255 read as 8-bit"
    return _grey((values.astype(np.uint32) * 255 + 32767) // 65535), "16-bit scaled to 8"


def _from_floats(values: npt.NDArray[Any], name: str) -> tuple[Image.Image, str]:
    if not np.isfinite(values).all():
        raise ImageError(f"{name} contains NaN or infinity: save it with 8 or 16 bits")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise ImageError(
            f"{name} contains floats from {low:g} to {high:g}, whose brightness is not defined: save it with "
            "floats in 0 .. 1, or with 8 or 16 bits"
        )
    if high <= 1:
        return _grey(np.rint(values * 255)), "floats in 0 .. 1 scaled to 8-bit"
    return _grey(np.rint(values)), "floats in 0 .. 255 rounded to 8-bit"


def _grey(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(cast(RGB8, values.astype(np.uint8)))
