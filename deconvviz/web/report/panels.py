"""Panels: rows of tile grids and curves, each with its own title."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.web.report import curves, tile_grid
from deconvviz.web.report.embedded import Embedded


@dataclass(frozen=True)
class Part:
    """One tile grid or figure of curves, and the template that shows it."""

    heading: str
    lines: tuple[str, ...]
    template: str
    content: Any


@dataclass(frozen=True)
class PanelsBlock:
    """Rows of parts."""

    rows: tuple[tuple[Part, ...], ...]
    footer: str


def block_of(panels: Panels, embedded: Embedded) -> PanelsBlock:
    """Return the content of a figure of panels."""
    rows = tuple(tuple(_part(part, embedded) for part in row) for row in panels.rows)
    return PanelsBlock(rows, panels.footer)


def _part(part: TileGrid | Curves, embedded: Embedded) -> Part:
    heading, *lines = part.title or ("",)
    if isinstance(part, Curves):
        return Part(heading, tuple(lines), "report_curves.html", curves.block_of(part))
    return Part(heading, tuple(lines), "report_tile_grid.html", tile_grid.block_of(part, embedded))
