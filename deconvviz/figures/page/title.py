"""The lines above a sheet, a plate or a panel of it: the first is its name, the others explain it."""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.figures.page.page import Line
from deconvviz.figures.page.style import INK, SOFT_INK, SUBTITLE, TITLE
from deconvviz.figures.page.text import clean, elide, wrap


def title_lines(title: Sequence[str], room: float, *, size: float = TITLE) -> list[Line]:
    """Each in at most two lines of `room` inches; `size` is the first one's, in points."""
    lines: list[Line] = []
    for index, given in enumerate(title):
        points, bold, ink = (SUBTITLE, False, SOFT_INK) if index else (size, True, INK)
        parts = wrap(clean(given, bold=bold), room, points, bold)
        if len(parts) > 2:  # what does not fit in two lines loses its middle
            parts = (parts[0], elide(" · ".join(parts[1:]), room, points, bold))
        lines += [Line(part, points, bold, ink) for part in parts]
    return lines
