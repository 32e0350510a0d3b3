"""Figures: a spec says what one shows, as arrays and text; `draw` makes a matplotlib figure of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconvviz.figures.spec import Spec


def draw(spec: Spec, *, width: float | None = None) -> Figure:
    """Draw a spec, `width` inches wide; None chooses a width up to that of a page.

    The user's own matplotlib settings do not affect the figure, and they are not changed. Raises FigureError.
    """
    from deconvviz.figures.curves.draw import draw_curves
    from deconvviz.figures.sheet.draw import draw_sheet
    from deconvviz.figures.spec import Curves, Sheet, TileGrid, TopNineFigure
    from deconvviz.figures.tile_grid.draw import draw_tile_grid
    from deconvviz.figures.top_nine.draw import draw_top_nine

    if isinstance(spec, Sheet):
        return draw_sheet(spec, width=width)
    if isinstance(spec, TopNineFigure):
        return draw_top_nine(spec, width=width)
    if isinstance(spec, TileGrid):
        return draw_tile_grid(spec, width=width)
    if isinstance(spec, Curves):
        return draw_curves(spec, width=width)
    raise TypeError(f"{type(spec).__name__} is no spec of a figure")
