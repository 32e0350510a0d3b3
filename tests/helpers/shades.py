"""Pictures of one shade each, so that a test sees which of them a source gave."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from deconvviz.image_sources import Source


def encoded(shade: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, shade, shade)).save(stream, kind)
    return stream.getvalue()


def saved(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(shade))
    return path


def shade_of(source: Source, number: int) -> int:
    return int(source.picture(number).rgb[0, 0, 0])


def shades(source: Source) -> dict[str, int]:
    """What each id shows; the ids in the source's order."""
    return {name: shade_of(source, number) for number, name in enumerate(source.names)}
