"""Title lines of a figure or panel: the first is its name, the others explain it."""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.figures.page.page import Line
from deconvviz.figures.page.style import INK, SOFT_INK, SUBTITLE, TITLE
from deconvviz.figures.page.text import clean, wrap_at_most


def title_lines(title: Sequence[str], room: float, *, size: float = TITLE) -> list[Line]:
    """Wrap each line of a title to at most two lines of `room` inches.

    `size` is the font size of the first line, in points.
    """
    lines: list[Line] = []
    for index, given in enumerate(title):
        points, bold, ink = (SUBTITLE, False, SOFT_INK) if index else (size, True, INK)
        parts = wrap_at_most(clean(given, bold=bold), room, points, 2, bold=bold, joint=" · ")
        lines += [Line(part, points, bold, ink) for part in parts]
    return lines
