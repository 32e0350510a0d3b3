"""Draw panels with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from deconvviz.figures.curves.draw import paint_curves
from deconvviz.figures.curves.layout import CurvesBody, arrange_curves
from deconvviz.figures.page.compose import Corner, compose
from deconvviz.figures.page.footer import Footer, Key
from deconvviz.figures.page.medium import Page
from deconvviz.figures.page.page import Line, Paper, set_colour_scale
from deconvviz.figures.page.sizes import MARGIN, PAGE
from deconvviz.figures.page.style import SUBTITLE, sheet_style
from deconvviz.figures.page.title import title_lines
from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.panels import Panels, Part
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.figures.spec.validation import check_width
from deconvviz.figures.tile_grid.draw import keys_of, notes_of, paint_tile_grid, scale_text_of
from deconvviz.figures.tile_grid.layout import GAP_X, GridBody, arrange_grid

_GAP_X, _GAP_Y = 0.18, 0.16
_BELOW_TITLE = 0.05


@dataclass(frozen=True)
class _Placed:
    """Position of a part: its title starts at (x, y)."""

    part: Part
    body: GridBody | CurvesBody
    title: tuple[Line, ...]
    x: float
    y: float

    @property
    def body_y(self) -> float:
        above = sum(line.height for line in self.title)
        return self.y + (above + _BELOW_TITLE if above else 0.0)

    @property
    def bottom(self) -> float:
        return self.body_y + self.body.height


def draw_panels(panels: Panels, *, width: float | None = None) -> Figure:
    """Draw panels, `width` inches wide; None chooses the width in the style, or one page."""
    check_width(width)
    with sheet_style():
        page = Page(width or panels.style.width or PAGE)
        room = page.width - 2 * MARGIN
        placed = _arranged(panels, room)
        height = max(one.bottom for one in placed)

        def paint(paper: Paper, corner: Corner) -> None:
            for number, one in enumerate(placed):
                _paint(paper, one, corner, f"part-{number}")

        figure = compose(panels.title, _footer(panels, placed, room), (room, height), paint, page)
        grids = [part for part in panels.parts if isinstance(part, TileGrid) and part.limits]
        if grids:
            limits = [limit for grid in grids for limit in grid.limits.values()]
            set_colour_scale(figure, grids[0].units, limits)
        return figure


def _arranged(panels: Panels, room: float) -> list[_Placed]:
    placed: list[_Placed] = []
    top = 0.0
    for number, row in enumerate(panels.rows):
        free = room - _GAP_X * (len(row) - 1)
        left = 0.0
        shares = panels.shares[number] if panels.shares else (1.0,) * len(row)
        widths = [free * share / sum(shares) for share in shares]
        if not panels.shares:
            widths = _equal_tiles(row, widths)
        for part, wide in zip(row, widths, strict=True):
            placed.append(_placed(part, wide, left, top))
            left += wide + _GAP_X
        top = max(one.bottom for one in placed[-len(row) :]) + _GAP_Y
    return placed


def _equal_tiles(row: Sequence[Part], widths: Sequence[float]) -> list[float]:
    """Return widths of tile grids with which all their tiles have the same width."""
    grids = [part for part in row if isinstance(part, TileGrid)]
    if len(grids) < max(len(row), 2):
        return list(widths)
    columns, labels = [], []
    for grid, wide in zip(grids, widths, strict=True):
        body = arrange_grid(grid, wide + 2 * MARGIN, around=0.0, tallest=math.inf)
        columns.append(grid.shape[1])
        labels.append(body.width - grid.shape[1] * (body.tile_width + GAP_X))
    tile = (sum(widths) - sum(labels)) / sum(columns)
    return [label + count * tile for label, count in zip(labels, columns, strict=True)]


def _placed(part: Part, wide: float, x: float, y: float) -> _Placed:
    page = wide + 2 * MARGIN
    body: GridBody | CurvesBody
    if isinstance(part, TileGrid):
        body = arrange_grid(part, page, around=0.0, tallest=math.inf)
    else:
        body = arrange_curves(part, page, around=0.0)
    return _Placed(part, body, tuple(title_lines(part.title, wide, size=SUBTITLE)), x, y)


def _paint(paper: Paper, one: _Placed, corner: Corner, name: str) -> None:
    axes = paper.figure.axes[0]
    before = set(axes.get_children())
    x, y = one.x + corner[0], one.body_y + corner[1]
    paper.lines(list(one.title), x, one.y + corner[1], "title")
    if isinstance(one.part, TileGrid) and isinstance(one.body, GridBody):
        paint_tile_grid(paper, one.part, one.body, (x, y))
    elif isinstance(one.part, Curves) and isinstance(one.body, CurvesBody):
        paint_curves(paper, one.part, one.body, (x, y))
    for artist in axes.get_children():
        if artist not in before and artist.get_gid():
            artist.set_gid(f"{name}-{artist.get_gid()}")  # the parts use the same names


def _footer(panels: Panels, placed: list[_Placed], room: float) -> Footer:
    keys: dict[str, Key] = {}
    texts: list[str] = []
    for one in placed:
        if isinstance(one.part, TileGrid) and isinstance(one.body, GridBody):
            for key in keys_of(one.part):
                keys.setdefault(f"{key.gid} {key.low} {key.high}", key)
            texts += [*scale_text_of(one.part), notes_of(one.part, one.body).legend]
        texts.append(one.part.footer)
    return Footer(list(keys.values()), " · ".join(filter(None, dict.fromkeys(texts))), panels.footer, room)
