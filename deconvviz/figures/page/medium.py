"""Page width and shape for each medium: screen, paper or slide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from deconvviz.errors import FigureError
from deconvviz.figures.page.sizes import ABOVE_FOOTER, MARGIN, PAPER_COLUMN, SLIDE
from deconvviz.figures.page.title import title_lines

_LARGEST_TYPE = 5.4  # width of the narrowest layout in inches; a narrower layout has larger type on the slide
_SMALLEST_TYPE = 60.0
_STEP = 1.08
_COMPARED = 8  # number of page sizes that fit the figure, from which the best is chosen
_SMALL_TYPE = 1.8  # cost of type that is smaller by a factor of e


@dataclass(frozen=True)
class Page:
    """Page for which a figure is arranged, in inches.

    If `height` is None, the page is as high as its content. The figure is arranged with type of the usual
    size, and `scale` then enlarges the whole page.
    """

    width: float
    height: float | None = None
    scale: float = 1.0

    def body_room(self, title: Sequence[str], footer: float, below_title: float) -> float:
        """Return the height that is left for the body, in inches; infinite if the page has no fixed height.

        `footer` and `below_title` are heights in inches.
        """
        lines = title_lines(title, self.width - 2 * MARGIN)
        above = sum(line.height for line in lines) + (below_title if lines else 0)
        below = footer + ABOVE_FOOTER if footer else 0.0
        return (math.inf if self.height is None else self.height) - above - below - 2 * MARGIN


@dataclass(frozen=True)
class Fit:
    """Layout that fits its page, with its cost (lower is better)."""

    cost: float
    draw: Callable[[], Figure]


def page_width_for(medium: str, width: float | None) -> float | None:
    """Return the given width, else one column for paper, else None: the content decides."""
    return PAPER_COLUMN if width is None and medium == "paper" else width


def draw_slide(width: float | None, fit: Callable[[Page], Fit | None]) -> Figure:
    """Draw a figure on a 16:9 slide.

    `fit` arranges the figure on a page of the given size and returns None if it does not fit. Several page
    sizes are tried; a smaller page gives larger type on the slide. Raises FigureError if none fits.
    """
    across, down = SLIDE
    printed = across if width is None else width
    fits: list[tuple[float, Fit]] = []
    layout = _LARGEST_TYPE
    while layout < _SMALLEST_TYPE and len(fits) < _COMPARED:
        if (found := fit(Page(layout, layout * down / across, printed / layout))) is not None:
            fits.append((found.cost + _SMALL_TYPE * math.log(layout), found))
        layout *= _STEP
    if not fits:
        raise FigureError("the figure does not fit on a slide: it has too many tiles. Show fewer tiles")
    return min(fits, key=lambda pair: pair[0])[1].draw()
