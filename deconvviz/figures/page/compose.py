"""Title, body and footer on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from deconvviz.figures.page.footer import Footer
from deconvviz.figures.page.page import Paper
from deconvviz.figures.page.sizes import MARGIN
from deconvviz.figures.page.style import TITLE, line_height
from deconvviz.figures.page.text import clean
from deconvviz.figures.page.title import title_lines

_ABOVE_FOOTER = 0.1

Corner = tuple[float, float]
"""(x, y) of the body's top left, in inches."""


def compose(
    title: Sequence[str],
    footer: Footer,
    size: tuple[float, float],
    paint: Callable[[Paper, Corner], None],
    *,
    below_title: float = 0.09,
) -> Figure:
    """A figure whose body, `size` (page width, body height), is painted by `paint`."""
    width, body_height = size
    lines = title_lines(title, width - 2 * MARGIN)
    top = MARGIN + sum(line.height for line in lines) + (below_title if lines else 0)
    below = top + body_height + (_ABOVE_FOOTER if footer.height else 0)
    paper = Paper(width, below + footer.height + MARGIN, " – ".join(map(clean, title)))
    paper.lines(lines, MARGIN, MARGIN, "title")
    paint(paper, (MARGIN, top))
    footer.paint(paper, MARGIN, below)
    return paper.figure


def height_around(title: Sequence[str]) -> float:
    """About the height of title and footer, before they are laid out."""
    return 0.6 + len(title) * line_height(TITLE)
