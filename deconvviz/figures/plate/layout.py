"""Where a plate's panels, blocks, frames, crops and captions stand, and how many columns it has.

All blocks of a plate have one width. Every number of columns is measured, and the cheapest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deconvviz.errors import FigureError
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line
from deconvviz.figures.page.style import CAPTION, INK, SMALL, SOFT_INK
from deconvviz.figures.page.text import clean, elide, wrap
from deconvviz.figures.page.title import title_lines
from deconvviz.figures.sheet.grid import excess
from deconvviz.figures.sheet.layout import space_before
from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.plate import Block, Crop, Layout, Panel, Plate

Lines = tuple[Line, ...]
PAGE = 7.0  # inches: two columns of a paper
NARROWEST = 3.45  # one column of a paper: a plate that chooses its width is never narrower
MARGIN = 0.06
HAIRLINE = 0.012  # between the crops of a block
PANEL_GAP = 0.18

_BLOCK_GAP = {"panels": 0.1, "pairs": 0.2}  # between two columns; in pairs each column is two blocks wide
_SIDE_GAP = {"panels": 0.2, "pairs": 0.05}  # between projections and patches
_ROW_GAP, _CAPTION_GAP, _BELOW_TITLE = 0.1, 0.04, 0.03
_PANEL_TITLE = 7.6  # points

_COMFORT, _CROP_COMFORT = 0.75, 0.24  # inches: the least for a block, and for each crop of a row in it
_TIGHT = 0.5  # the least for a block where a width was asked for
_AMPLE = 0.34  # inches: a crop needs no more
_WIDEST_CROP = {1: 1.0, 2: 0.65}  # by the columns of a block
_TALLEST = 9.4  # inches: what a page takes


@dataclass(frozen=True)
class Caption:
    """Lines of text below a block, or above a column of blocks."""

    gid: str
    lines: Lines
    x: float
    y: float


@dataclass(frozen=True)
class Placed:
    """A channel's two blocks of frames."""

    block: Block
    limit: Limit
    projections: Rect
    patches: Rect
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class PlacedPanel:
    panel: Panel
    title: Caption
    heads: tuple[Caption, ...]
    blocks: tuple[Placed, ...]
    height: float


@dataclass(frozen=True)
class PlateBody:
    """All panels, from the corner (0, 0)."""

    columns: int
    width: float
    room: float  # the page's width without margins
    height: float
    panels: tuple[PlacedPanel, ...]


def arrange_plate(
    plate: Plate, limits: Sequence[Sequence[Limit]], width: float | None, around: float
) -> PlateBody:
    """The body for a page of `width` inches; `around` is the height of title and foot.

    Without a width it is PAGE, wider where the columns asked for need it, and narrower where little is shown.
    """
    grids = [_Grid(plate, width, *choice) for choice in _choices(plate, width)]
    bodies = [grid.body(limits) for grid in grids]
    return min(bodies, key=lambda body: _cost(plate, body, around))


def frames_of(block: Rect, shape: tuple[int, int]) -> Iterator[Rect]:
    """A block's frames, row by row; `shape` is (rows, columns)."""
    rows, columns = shape
    wide = (block.w - (columns - 1) * HAIRLINE) / columns
    high = (block.h - (rows - 1) * HAIRLINE) / rows
    for row in range(rows):
        for column in range(columns):
            yield Rect(block.x + column * (wide + HAIRLINE), block.y + row * (high + HAIRLINE), wide, high)


def place_crop(frame: Rect, crop: Crop, panel: Panel) -> Rect:
    """Where a crop is drawn in its frame. One zoom for the panel, so that a field cut by the picture's border
    is smaller, and stands on the side where it was not cut."""
    height, width = crop.size
    down, across = panel.largest_crop
    zoom = min(frame.w / across, frame.h / down)
    left = space_before(crop.cut_left, crop.cut_right)
    top = space_before(crop.cut_top, crop.cut_bottom)
    return frame.fitted(width * zoom, height * zoom, left=left, top=top)


def plate_shows_outside(plate: Plate) -> bool:
    """Whether some crop does not fill its frame."""
    return any(
        crop.size != panel.largest_crop
        for panel in plate.panels
        for block in panel.blocks
        for crop in block.crops
    )


@dataclass(frozen=True)
class _Grid:
    """One choice: how many channels side by side, and how wide a block is."""

    plate: Plate
    page: float | None
    columns: int
    wide: float

    @property
    def width(self) -> float:
        return _width(self.plate.layout, self.columns, self.wide)

    @property
    def room(self) -> float:
        """What the page has for a line of text."""
        page = max(self.width + 2 * MARGIN, NARROWEST) if self.page is None else self.page
        return page - 2 * MARGIN

    def body(self, limits: Sequence[Sequence[Limit]]) -> PlateBody:
        panels: list[PlacedPanel] = []
        y = 0.0
        for number, (panel, of_panel) in enumerate(zip(self.plate.panels, limits, strict=True)):
            panels.append(self._panel(number, panel, of_panel, y))
            y += panels[-1].height + PANEL_GAP
        return PlateBody(self.columns, self.width, self.room, y - PANEL_GAP, tuple(panels))

    def _panel(self, number: int, panel: Panel, limits: Sequence[Limit], top: float) -> PlacedPanel:
        title = tuple(title_lines(panel.title, self.room, size=_PANEL_TITLE))
        below = top + sum(line.height for line in title) + _BELOW_TITLE
        heads = tuple(self._heads(number, min(self.columns, len(panel.blocks)), below))
        y = below + Line("", SMALL).height + _CAPTION_GAP
        written = [self._written(block, limit) for block, limit in zip(panel.blocks, limits, strict=True)]
        high = self._high(panel)
        blocks: list[Placed] = []
        for row in range(0, len(panel.blocks), self.columns):
            those = slice(row, row + self.columns)
            for column, (block, limit, lines) in enumerate(
                zip(panel.blocks[those], limits[those], written[those], strict=True)
            ):
                left, right = self._sides(column)
                sides = Rect(left, y, self.wide, high), Rect(right, y, self.wide, high)
                blocks.append(_placed(f"{number}-{row + column}", block, limit, sides, lines))
            y += high + _CAPTION_GAP + max(_height(lines) for pair in written[those] for lines in pair)
            y += _ROW_GAP
        caption = Caption(f"panel-{number}", title, 0.0, top)
        return PlacedPanel(panel, caption, heads, tuple(blocks), y - _ROW_GAP - top)

    def _high(self, panel: Panel) -> float:
        """The height of a block."""
        rows, columns = self.plate.block_shape
        down, across = panel.largest_crop
        frame = (self.wide - (columns - 1) * HAIRLINE) / columns
        return rows * frame * min(max(down / across, 0.25), 4.0) + (rows - 1) * HAIRLINE

    def _sides(self, column: int) -> tuple[float, float]:
        """The left edges of a column's projections and of its patches."""
        gap, side = _BLOCK_GAP[self.plate.layout], _SIDE_GAP[self.plate.layout]
        if self.plate.layout == "pairs":
            left = column * (2 * self.wide + side + gap)
            return left, left + self.wide + side
        left = column * (self.wide + gap)
        return left, left + self.columns * (self.wide + gap) - gap + side

    def _heads(self, panel: int, columns: int, y: float) -> Iterator[Caption]:
        """'projections' and 'patches', once for each side, or above each pair."""
        for column in range(columns if self.plate.layout == "pairs" else 1):
            for name, x in zip(("projections", "patches"), self._sides(column), strict=True):
                yield Caption(f"head-{panel}-{column}-{name}", (_soft(elide(name, self.wide, SMALL)),), x, y)

    def _written(self, block: Block, limit: Limit) -> tuple[Lines, Lines]:
        """The lines below a channel's projections and below its patches."""
        full = str(limit) if limit.value else "all zero"
        caption = [clean(line) for line in block.caption if line.strip()]
        if self.plate.layout == "pairs":
            room = 2 * self.wide + _SIDE_GAP["pairs"]
            rest = wrap(" · ".join([*caption, full]), room, CAPTION)
            return (_name(block, room), *map(_soft, rest)), ()
        below = [part for line in caption for part in wrap(line, self.wide, CAPTION)]
        name = _name(block, self.wide)
        return (name, _soft(full)), (name, *map(_soft, below))


def _placed(
    name: str, block: Block, limit: Limit, sides: tuple[Rect, Rect], written: tuple[Lines, Lines]
) -> Placed:
    gids = f"caption-{name}", f"patch-caption-{name}"
    captions = tuple(
        Caption(gid, lines, side.x, side.bottom + _CAPTION_GAP)
        for gid, lines, side in zip(gids, written, sides, strict=True)
    )
    return Placed(block, limit, *sides, captions)


def _choices(plate: Plate, width: float | None) -> Iterator[tuple[int, float]]:
    """Columns, and how wide their blocks become."""
    across = plate.block_shape[1]
    comfort = max(_COMFORT, _CROP_COMFORT * across)
    sizes = [max(crop * across, comfort) for crop in (_WIDEST_CROP.get(across, 0.54), 0.42, _AMPLE)]
    count = max(len(panel.blocks) for panel in plate.panels)
    columns = range(1, count + 1) if plate.columns is None else (min(plate.columns, count),)
    wide = {c: _wide(plate.layout, c, PAGE if width is None else width) for c in columns}
    if width is not None:
        return _within(plate.layout, width, wide, comfort, sizes[0])
    choices = [(c, min(room, size)) for c, room in wide.items() if room >= comfort for size in sizes]
    return iter(choices or [(columns[0], comfort)])  # or a page as wide as the columns asked for need


def _within(
    layout: Layout, width: float, wide: dict[int, float], comfort: float, most: float
) -> Iterator[tuple[int, float]]:
    """The same for a page that must have this width."""
    for least in (0.9 * comfort, _TIGHT):
        fitting = [(c, min(room, most)) for c, room in wide.items() if room >= least]
        if fitting:
            return iter(fitting)
    fewest = min(wide)
    asked, instead = f"{fewest} columns do", "fewer columns or a wider figure"
    if fewest == 1:
        asked, instead = "projections and patches side by side do", "a wider figure"
    needed = math.ceil(100 * (_width(layout, fewest, _TIGHT) + 2 * MARGIN)) / 100
    raise FigureError(
        f"{asked} not fit into a figure {width:g} inches wide, they need {needed:.2f}: ask for {instead}"
    )


def _wide(layout: Layout, columns: int, page: float) -> float:
    """The width of a block where so many columns fill the page."""
    return (page - 2 * MARGIN - _width(layout, columns, 0.0)) / (2 * columns)


def _width(layout: Layout, columns: int, wide: float) -> float:
    gap, side = _BLOCK_GAP[layout], _SIDE_GAP[layout]
    if layout == "pairs":
        return columns * (2 * wide + side + gap) - gap
    return 2 * (columns * (wide + gap) - gap) + side


def _cost(plate: Plate, body: PlateBody, around: float) -> float:
    """Weights found by looking at plates of 1 to 40 channels and 1 to 5 layers."""
    height = body.height + around
    crop = body.panels[0].blocks[0].projections.w / plate.block_shape[1]
    printed = crop * min(1.0, _TALLEST / height)  # shrunk to a page
    ragged = [-len(panel.panel.blocks) % body.columns / body.columns for panel in body.panels]
    cost = -math.log(min(printed, _AMPLE)) - 0.3 * math.log(printed) + excess(_CROP_COMFORT / crop)
    cost += 0.3 * sum(ragged) / len(ragged) + 0.3 * excess(PAGE / body.room)
    cost += 0.08 * min(height, _TALLEST) + 0.5 * excess(height / _TALLEST)
    return cost + 0.8 * excess(height / (1.25 * body.room))


def _name(block: Block, room: float) -> Line:
    return Line(elide(clean(block.name), room, CAPTION), CAPTION, ink=INK)


def _soft(text: str) -> Line:
    return Line(text, CAPTION, ink=SOFT_INK)


def _height(lines: Lines) -> float:
    return sum(line.height for line in lines)
