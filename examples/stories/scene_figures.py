"""Writing of the figures of the stories."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from deconvviz.figures.page.save import render_png
from deconvviz.files import write_whole

DPI = 100
LARGE = 190_000  # bytes


def saved(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Write a figure and print where it is. A large one gets 256 colours only."""
    png = render_png(figure, dpi)
    if len(png) > LARGE:
        smaller = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256, kmeans=2).save(smaller, "PNG", optimize=True)
        png = smaller.getvalue()
    write_whole(path, lambda stream: stream.write(png), force=True)
    print(f"written: {path}")


def colours(images: np.ndarray) -> np.ndarray:
    """Return uint8 images as colours from 0 to 1."""
    found: np.ndarray = images.astype(np.float32) / 255
    return found
