"""Panels: rows of tile grids and curves, each with its own title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.web.report import curves, tile_grid
from deconvviz.web.report.embedded import Embedded


@dataclass(frozen=True)
class Part:
    """One tile grid or figure of curves, and the template that shows it.

    `width` is ``whole`` (a row of its own), ``narrow`` (as wide as its tiles) or ``rest``.
    """

    heading: str
    lines: tuple[str, ...]
    template: str
    content: Any
    width: str = "rest"


@dataclass(frozen=True)
class PanelsBlock:
    """Rows of parts."""

    rows: tuple[tuple[Part, ...], ...]
    footer: str


def block_of(panels: Panels, embedded: Embedded) -> PanelsBlock:
    """Return the content of a figure of panels."""
    rows = tuple(tuple(_part(part, embedded) for part in _labelled(row)) for row in panels.rows)
    return PanelsBlock(rows, panels.footer)


def _labelled(row: Sequence[TileGrid | Curves]) -> tuple[TileGrid | Curves, ...]:
    """Return the parts of a row, where a grid without row labels has those of the grid before it.

    On paper, the rows of the grids continue each other. On a narrow page, each grid has a row of its own.
    """
    found: list[TileGrid | Curves] = []
    for part in row:
        before = found[-1] if found else None
        labels = before.row_labels if isinstance(before, TileGrid) else ()
        if isinstance(part, TileGrid) and not part.row_labels and len(labels) == len(part.tiles):
            part = replace(part, row_labels=labels)
        found.append(part)
    return tuple(found)


def _part(part: TileGrid | Curves, embedded: Embedded) -> Part:
    heading, *lines = part.title or ("",)
    if isinstance(part, Curves):
        return Part(heading, tuple(lines), "report_curves.html", curves.block_of(part))
    block = tile_grid.block_of(part, embedded)
    width = "whole" if block.size == "small" else "narrow"
    return Part(heading, tuple(lines), "report_tile_grid.html", block, width)
