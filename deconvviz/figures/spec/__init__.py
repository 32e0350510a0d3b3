"""Content of figures as plain arrays and text. Specs are validated when created and do not use matplotlib."""

from __future__ import annotations

from deconvviz.figures.spec.curves import Curves as Curves
from deconvviz.figures.spec.measures import MeasuresFigure as MeasuresFigure
from deconvviz.figures.spec.panels import Panels as Panels
from deconvviz.figures.spec.sheet import Sheet as Sheet
from deconvviz.figures.spec.sheets import Sheets as Sheets
from deconvviz.figures.spec.tile_grid import TileGrid as TileGrid
from deconvviz.figures.spec.top_nine import TopNineFigure as TopNineFigure

Spec = Sheet | Sheets | TopNineFigure | TileGrid | Curves | MeasuresFigure | Panels
