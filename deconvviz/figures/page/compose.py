"""Compose title, body and footer on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from deconvviz.figures.page.footer import Footer
from deconvviz.figures.page.medium import Page
from deconvviz.figures.page.page import Paper
from deconvviz.figures.page.sizes import ABOVE_FOOTER, MARGIN
from deconvviz.figures.page.style import TITLE, line_height
from deconvviz.figures.page.text import clean
from deconvviz.figures.page.title import title_lines

_SHARE_ABOVE = 0.3  # share of the free height that lies between title and body on a page of fixed height
BELOW_TITLE = 0.09

Corner = tuple[float, float]
"""(x, y) of the top left corner of the body, in inches."""


def compose(
    title: Sequence[str],
    footer: Footer,
    size: tuple[float, float],
    paint: Callable[[Paper, Corner], None],
    page: Page,
    *,
    below_title: float = BELOW_TITLE,
) -> Figure:
    """Return a figure with a title, a footer, and a body that `paint` draws.

    `size` is the (width, height) of the body in inches. On a page of fixed height, the footer is at the
    bottom and the body lies between title and footer.
    """
    body_width, body_height = size
    lines = title_lines(title, page.width - 2 * MARGIN)
    x, top = MARGIN, MARGIN + sum(line.height for line in lines) + (below_title if lines else 0)
    below = top + body_height + (ABOVE_FOOTER if footer.height else 0)
    height = below + footer.height + MARGIN
    if page.height is not None:
        x += (page.width - 2 * MARGIN - body_width) / 2
        top += (page.height - height) * _SHARE_ABOVE
        below += page.height - height
        height = page.height
    paper = Paper(page.width, height, " – ".join(map(clean, title)), page.scale)
    paper.lines(lines, MARGIN, MARGIN, "title")
    paint(paper, (x, top))
    footer.paint(paper, MARGIN, below)
    return paper.figure


def height_around(title: Sequence[str]) -> float:
    """Return an estimate of the height of title and footer, in inches."""
    return 0.6 + len(title) * line_height(TITLE)
