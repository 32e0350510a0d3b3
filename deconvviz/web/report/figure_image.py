"""Any other figure as an image: the one that the result draws itself."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deconvviz.web.report.document import View
from deconvviz.web.report.embedded import Embedded

DPI = 150


@dataclass(frozen=True)
class FigureBlock:
    """A figure as an image."""

    view: View
    name: str


def block_of(result: Any, name: str, embedded: Embedded) -> FigureBlock:
    """Return the figure of a result as an image, with its name as the alternative text."""
    from deconvviz.figures.page.save import render_png

    with Image.open(io.BytesIO(render_png(result.figure(), dpi=DPI))) as image:
        pixels = np.asarray(image.convert("RGB"))
    return FigureBlock(embedded.whole(pixels), f"Figure: {name}")
