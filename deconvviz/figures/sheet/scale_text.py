"""The scale of a sheet in words."""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.figures.page.footer import clipped_share
from deconvviz.figures.page.text import clean
from deconvviz.figures.sheet.layout import shows_outside
from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.sheet import Sheet


def scale_line(sheet: Sheet, limits: Sequence[Limit]) -> str:
    """What mid-grey and full colour mean, who shares the scale, and how much was clipped."""
    units = f" {clean(sheet.units)}" if sheet.units else ""
    said = {
        "sheet": f"one scale for the sheet: mid-grey = 0, full colour = {limits[0]}{units}",
        "row": f"one scale per row: mid-grey = 0, full colour = the ± at the row's end,{units}",
        "tile": f"each tile its own scale: mid-grey = 0, full colour = the ± in its caption,{units}",
    }[sheet.style.scale].rstrip(",")
    if not any(limit.value for limit in limits):
        said = "every projection here is zero: all mid-grey"
    outside = " · light grey: outside the picture" if shows_outside(sheet) else ""
    return said + _clipped(sheet, limits) + outside


def _clipped(sheet: Sheet, limits: Sequence[Limit]) -> str:
    if sheet.style.percentile == 100:
        return ""
    share = clipped_share(limits, one=sheet.style.scale == "sheet")
    return f" ({sheet.style.percentile:g}th percentile; {share} clipped)"
