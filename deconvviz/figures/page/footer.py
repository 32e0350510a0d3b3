"""The foot of a sheet: the key from -limit to +limit, the scale in words, the user's own line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.style import SMALL, SOFT_INK
from deconvviz.figures.page.text import clean, width_of, wrap
from deconvviz.figures.sheet.layout import shows_outside
from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.sheet import Sheet

_BAR = (0.7, 0.085)
_GAP = 0.04
_AFTER_KEY = 0.12


class Foot:
    """`ends` of the key are texts; `said` explains it, and stands beside it where it fits."""

    def __init__(self, ends: tuple[str, str], said: str, footer: str, room: float) -> None:
        self._ends = ends
        self._key_width = sum(width_of(end, SMALL) for end in self._ends) + _BAR[0] + 2 * _GAP
        fits = len(wrap(said, room - self._key_width - _AFTER_KEY, SMALL)) == 1
        self._beside_key = said if fits else ""
        below = [] if fits else list(wrap(said, room, SMALL))
        below += [line for line in wrap(clean(footer), room, SMALL) if line]
        self._below = [Line(line, SMALL, ink=SOFT_INK) for line in below]

    @property
    def height(self) -> float:
        return sum(line.height for line in self._below) + Line("", SMALL).height

    def paint(self, paper: Paper, x: float, y: float) -> None:
        low, high, said = (Line(text, SMALL, ink=SOFT_INK) for text in (*self._ends, self._beside_key))
        bar = Rect(x + width_of(low.text, SMALL) + _GAP, y + (low.height - _BAR[1]) / 2, *_BAR)
        paper.lines([low], x, y, "key-low")
        paper.image(np.repeat(np.linspace(0, 1, 65)[None, :, None], 3, axis=2), bar, "key")
        paper.tick(bar.centre[0], bar.y, bar.bottom, "key-zero")
        paper.lines([high], bar.right + _GAP, y, "key-high")
        paper.lines([said], x + self._key_width + _AFTER_KEY, y, "scale")
        paper.lines(self._below, x, y + low.height, "foot")


def scale_line(sheet: Sheet, limits: Sequence[Limit]) -> str:
    """What mid-grey and full colour mean, who shares the scale, and how much was clipped."""
    units = f" {clean(sheet.units)}" if sheet.units else ""
    said = {
        "sheet": f"one scale for the sheet: mid-grey = 0, full colour = {limits[0]}{units}",
        "row": f"one scale per row: mid-grey = 0, full colour = the ± at the row's end,{units}",
        "tile": f"each tile its own scale: mid-grey = 0, full colour = the ± in its caption,{units}",
    }[sheet.scale].rstrip(",")
    if not any(limit.value for limit in limits):
        said = "every projection here is zero: all mid-grey"
    outside = " · light grey: outside the picture" if shows_outside(sheet) else ""
    return said + _clipped(sheet, limits) + outside


def _clipped(sheet: Sheet, limits: Sequence[Limit]) -> str:
    if sheet.percentile == 100:
        return ""
    most = 100 * max(limit.clipped for limit in limits)
    share = f"up to {most:.2g} %" if sheet.scale != "sheet" else f"{most:.2g} %"
    return f" ({sheet.percentile:g}th percentile; {share} of the non-zero values clipped)"


def key_ends(sheet: Sheet, limits: Sequence[Limit]) -> tuple[str, str]:
    if sheet.scale == "sheet" and limits[0].value:
        size = str(limits[0]).removeprefix("±")
        return f"−{size}", f"+{size}"
    return "−", "+"
