"""Images of one grey level each, which identifies the image that a source returns."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from deconvviz.image_sources import Source


def encoded(shade: int, kind: str = "PNG") -> bytes:
    """Return the bytes of an image file with this grey level."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, shade, shade)).save(stream, kind)
    return stream.getvalue()


def saved(path: Path, shade: int = 0) -> Path:
    """Write a PNG file with this grey level, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(shade))
    return path


def shade_of(source: Source, number: int) -> int:
    """Return the grey level of an image of a source."""
    return int(source.image(number).rgb[0, 0, 0])


def shades(source: Source) -> dict[str, int]:
    """Return the grey level of each image by its id, in the order of the source."""
    return {name: shade_of(source, number) for number, name in enumerate(source.names)}
