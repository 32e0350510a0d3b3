"""Figures. A spec describes the content of a figure as arrays and text; `draw` draws it with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconvviz.figures.spec import Spec


def draw(spec: Spec, *, width: float | None = None) -> Figure:
    """Draw a spec as a matplotlib figure.

    The user's matplotlib settings neither affect the figure nor change.

    Args:
        spec: Content of the figure.
        width: Width in inches; None chooses a width of at most one page.

    Raises:
        FigureError: The figure cannot be drawn, for example because `width` is too small.
    """
    from deconvviz.figures.curves.draw import draw_curves
    from deconvviz.figures.measures.draw import draw_measures
    from deconvviz.figures.panels.draw import draw_panels
    from deconvviz.figures.sheet.draw import draw_sheet
    from deconvviz.figures.sheet.stacked import draw_sheets
    from deconvviz.figures.spec import Curves, MeasuresFigure, Panels, Sheet, Sheets, TileGrid, TopNineFigure
    from deconvviz.figures.tile_grid.draw import draw_tile_grid
    from deconvviz.figures.top_nine.draw import draw_top_nine

    if isinstance(spec, Sheet):
        return draw_sheet(spec, width=width)
    if isinstance(spec, Sheets):
        return draw_sheets(spec, width=width)
    if isinstance(spec, TopNineFigure):
        return draw_top_nine(spec, width=width)
    if isinstance(spec, TileGrid):
        return draw_tile_grid(spec, width=width)
    if isinstance(spec, Curves):
        return draw_curves(spec, width=width)
    if isinstance(spec, MeasuresFigure):
        return draw_measures(spec, width=width)
    if isinstance(spec, Panels):
        return draw_panels(spec, width=width)
    raise TypeError(
        f"{type(spec).__name__} is not a figure spec: use Sheet, TopNineFigure, TileGrid, Curves or Panels"
    )
