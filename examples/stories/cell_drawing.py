"""Drawings of small maps with the number of each cell, for `transposed_convolution.py`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.style import mark_of, sheet_style

SIDE = 0.165  # of a cell, in inches
VALUE, EMPTY = "#d5e6f3", "#efefef"


class Cells:
    """A page on which maps are drawn cell by cell. Positions are inches from the top left corner."""

    def __init__(self, width: float, height: float, title: str) -> None:
        with sheet_style():
            self._paper = Paper(width, height, title)
            self._paper.lines([Line(title, 8.5, True)], 0.1, 0.08, "title")

    @property
    def figure(self) -> Figure:
        return self._paper.figure

    def text(self, text: str, x: float, y: float, *, bold: bool = False) -> None:
        with sheet_style():
            self._paper.lines([Line(text, 6.5, bold)], x, y, f"text-{x:.2f}-{y:.2f}")

    def map(self, values: Tensor, x: float, y: float, given: Tensor | None = None) -> None:
        """Draw a map (h, w) with its numbers. Cells where `given` is 0 are drawn empty."""
        with sheet_style():
            for (row, column), value in np.ndenumerate(values.numpy()):
                place = Rect(x + column * SIDE, y + row * SIDE, 0.94 * SIDE, 0.94 * SIDE)
                shown = value != 0 if given is None else given[row, column] != 0
                self._paper.ground(place, VALUE if shown else EMPTY)
                if shown:
                    number = Line(f"{value:g}", 5.8)
                    self._paper.centred(number, *place.centre, f"{x:.2f}-{y:.2f}-{row}-{column}")

    def box(self, row: int, column: int, cells: int, x: float, y: float, colour: int) -> None:
        """Draw a square box around cells of a map at (x, y)."""
        place = Rect(x + (column - 0.03) * SIDE, y + (row - 0.03) * SIDE, cells * SIDE, cells * SIDE)
        with sheet_style():
            self._paper.outline(place, mark_of(colour), f"box-{x:.2f}-{y:.2f}-{row}-{cells}")
