"""Text of a sheet about its colour scale and its crops."""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.figures.page.scale_text import clipping_text
from deconvviz.figures.page.text import clean
from deconvviz.figures.sheet.layout import shows_outside
from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.sheet import Sheet

_SCALES = {
    "sheet": "one colour scale for all projections; grey is zero",
    "row": "each row has its own colour scale; grey is zero",
    "tile": "each projection has its own colour scale; grey is zero",
}


def scale_line(sheet: Sheet, limits: Sequence[Limit]) -> str:
    """Return the line about shared colour scales, clipping and cropping."""
    zero = not any(limit.value for limit in limits)
    parts = ["all projections are zero" if zero else _SCALES[sheet.style.scale]]
    parts += clipping_text(sheet.style.percentile, limits)
    parts += [clean(sheet.crop_text)] if sheet.crop_text else []
    parts += ["light grey: outside the image"] if shows_outside(sheet) else []
    return " · ".join(parts)
