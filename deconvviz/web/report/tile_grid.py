"""A tile grid as a table of images with labels, marks and colour scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.figures.page.scale_text import clipping_text
from deconvviz.figures.spec.heat import Interval, heat_rgb
from deconvviz.figures.spec.lines_tile import LinesTile
from deconvviz.figures.spec.tile_grid import GridTile, LegendEntry, Mark, TileGrid
from deconvviz.web.report.curves import COLOURS
from deconvviz.web.report.document import View
from deconvviz.web.report.embedded import Embedded
from deconvviz.web.report.sheet import MARKS

_SCALES = {
    "grid": "one colour scale for the grid; grey is zero",
    "row": "each row has its own colour scale; grey is zero",
    "column": "each column has its own colour scale; grey is zero",
    "tile": "each tile has its own colour scale; grey is zero",
}
_STOPS = 16
_FEW, _MANY = 2, 7  # columns of grids with large and with small tiles


@dataclass(frozen=True)
class DrawnMark:
    """A box on a tile. `mark` is the number of its colour."""

    x: int
    y: int
    width: int
    height: int
    number: int | None
    mark: int


@dataclass(frozen=True)
class DrawnLines:
    """Lines of a tile in a box of `width` x `height`: points, heights of zero, and places of marks."""

    lines: tuple[tuple[int, str], ...]  # number of the colour, points
    zero: float | None
    marks: tuple[float, ...]
    width: int = 200
    height: int = 110


@dataclass(frozen=True)
class Cell:
    """One tile: an image or lines. `width` is in percent of the frame."""

    view: View | None
    name: str
    width: float
    lines: tuple[str, ...]
    note: str | None
    marks: tuple[DrawnMark, ...]
    legend: tuple[LegendEntry, ...] = ()
    drawn: DrawnLines | None = None


@dataclass(frozen=True)
class Row:
    """One row of tiles; `label` has its lines."""

    label: tuple[str, ...]
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class HeatScale:
    """Colours of maps, from the lowest to the highest value."""

    name: str
    low: str
    high: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class GridBlock:
    """Rows of tiles. `size` is that of the tiles: ``small``, ``usual`` or ``large``."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    heat: HeatScale | None
    scale: str
    footer: str
    size: str = "usual"


def block_of(grid: TileGrid, embedded: Embedded) -> GridBlock:
    """Return the content of a tile grid."""
    rows = tuple(_row(grid, number, embedded) for number in range(grid.shape[0]))
    signed = list(grid.limits.values())
    parts = []
    if signed:
        parts = [_SCALES[grid.style.scale], *clipping_text(grid.style.percentile, signed)]
        parts += [grid.units] if grid.units else []
    intervals = set(grid.intervals.values())
    heat = _heat(grid.map_name, next(iter(intervals))) if len(intervals) == 1 else None
    return GridBlock(grid.column_labels, rows, heat, " · ".join(parts), grid.footer, _size(grid))


def _size(grid: TileGrid) -> str:
    """Return the size of the tiles: large if there are few, such as mosaics of filters."""
    rows, columns = grid.shape
    if rows <= _FEW and columns <= _FEW:
        return "large"
    return "small" if columns >= _MANY else "usual"


def _row(grid: TileGrid, number: int, embedded: Embedded) -> Row:
    label = tuple(grid.row_labels[number].split("\n")) if grid.row_labels else ()
    cells = tuple(
        None if tile is None else _cell(grid, number, column, tile, embedded)
        for column, tile in enumerate(grid.tiles[number])
    )
    return Row(label, cells)


def _cell(grid: TileGrid, row: int, column: int, tile: GridTile | LinesTile, embedded: Embedded) -> Cell:
    colours = grid.colours((row, column))
    labels = [*(grid.row_labels[row].split("\n") if grid.row_labels else ())]
    labels += [grid.column_labels[column]] if grid.column_labels else []
    name = ", ".join([*labels, *tile.caption]) or f"row {row + 1}, column {column + 1}"
    if isinstance(tile, LinesTile):
        return Cell(None, name, 100.0, tile.caption, tile.note, (), drawn=_drawn(tile))
    lines = (*tile.caption, *_scale_lines(grid, row, column, tile))
    if colours is None:
        return Cell(None, name, 100.0, lines, tile.note, ())
    largest = max(grid.largest_in_row(row))
    width = 100.0 if tile.kind == "map" else 100 * tile.size[1] / largest
    flat = _size(grid) == "large" or (tile.kind == "map" and tile.under is None)
    view = embedded.whole(colours) if flat else embedded.light(colours)
    return Cell(view, name, min(width, 100.0), lines, tile.note, tuple(map(_mark, tile.marks)), tile.legend)


def _drawn(tile: LinesTile) -> DrawnLines:
    width, height = DrawnLines.width, DrawnLines.height
    lines = tuple(
        (
            number % COLOURS + 1,
            " ".join(
                f"{width * x:.1f},{height * (1 - min(max(y, 0.0), 1.0)):.1f}" for x, y in points.tolist()
            ),
        )
        for number, points in enumerate(tile.lines())
    )
    zero = None if tile.zero_at is None else round(height * (1 - tile.zero_at), 1)
    return DrawnLines(lines, zero, tuple(round(width * place, 1) for place in tile.marks()))


def _scale_lines(grid: TileGrid, row: int, column: int, tile: GridTile) -> tuple[str, ...]:
    """Return the limits of a tile's colours, unless all tiles share them."""
    place = (row, column)
    if tile.values is None or not grid.style.limits:
        return ()
    if tile.kind == "map" and len(set(grid.intervals.values())) > 1:
        return (str(grid.intervals[place]),)
    if tile.kind == "signed" and grid.style.scale != "grid":
        return (str(grid.limits[place]),)
    return ()


def _mark(mark: Mark) -> DrawnMark:
    x0, y0, x1, y1 = mark.box
    colour = 1 if mark.number is None else (mark.number - 1) % MARKS + 1
    return DrawnMark(x0, y0, x1 - x0, y1 - y0, mark.number, colour)


def _heat(name: str, interval: Interval) -> HeatScale:
    values = np.linspace(0, 1, _STOPS)[None, :]
    colours = np.rint(255 * heat_rgb(values, Interval(0, 1))[0]).astype(int)
    return HeatScale(
        name,
        f"{interval.low:.3g}",
        f"{interval.high:.3g}",
        tuple("#" + "".join(f"{part:02x}" for part in colour) for colour in colours.tolist()),
    )
