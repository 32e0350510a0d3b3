"""Layout of a top-nine figure: panels, blocks, frames, captions, and the number of columns.

All blocks have the same width. Every number of columns is measured, and the cheapest is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deconvviz.errors import FigureError
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line
from deconvviz.figures.page.sizes import (
    CAPTION_GAP,
    COLUMN,
    MARGIN,
    TALLEST,
    TOP_NINE_PAGE,
    excess,
    frame_ratio,
)
from deconvviz.figures.page.style import CAPTION, INK, SMALL, SOFT_INK
from deconvviz.figures.page.text import clean, elide, width_of, wrap
from deconvviz.figures.page.title import title_lines
from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.top_nine import ChannelBlock, LayerPanel, TopNineFigure

Lines = tuple[Line, ...]
HAIRLINE = 0.012  # gap between the crops of a block
PANEL_GAP = 0.18

_BLOCK_GAP = {"panels": 0.1, "pairs": 0.2}  # between two columns; with pairs, a column is two blocks wide
_SIDE_GAP = {"panels": 0.2, "pairs": 0.05}  # between projections and patches
_ROW_GAP, _BELOW_TITLE = 0.1, 0.03
_PANEL_TITLE = 7.6  # points

_COMFORT, _CROP_COMFORT = 0.75, 0.24  # comfortable width of a block, and of each of its crops, in inches
_TIGHT = 0.5  # smallest width of a block if the page width is given
_AMPLE = 0.34  # inches; a wider crop is not easier to read
_WIDEST_CROP = {1: 1.0, 2: 0.65}  # inches, by the number of columns in a block


@dataclass(frozen=True)
class Caption:
    """Lines of text at a position: a title, a heading, or the caption of a block."""

    gid: str
    lines: Lines
    x: float
    y: float


@dataclass(frozen=True)
class PlacedChannel:
    """Position of the projections and the patches of a channel."""

    block: ChannelBlock
    limit: Limit
    projections: Rect
    patches: Rect
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class PlacedLayer:
    panel: LayerPanel
    title: Caption
    heads: tuple[Caption, ...]
    blocks: tuple[PlacedChannel, ...]
    height: float


@dataclass(frozen=True)
class TopNineBody:
    """Positions of all panels, in inches from the top left corner (0, 0)."""

    columns: int
    width: float
    room: float  # width of the page without margins
    height: float
    panels: tuple[PlacedLayer, ...]

    @property
    def block_width(self) -> float:
        return self.panels[0].blocks[0].projections.w


def arrange_top_nine(
    spec: TopNineFigure, limits: Sequence[Sequence[Limit]], width: float | None, around: float
) -> TopNineBody:
    """Return the best body for a page of `width` inches; `around` is the height of title and footer.

    If `width` is None, the body is at most one page wide, and wider only if the requested columns do not
    fit.
    """
    grids = [_Grid(spec, width, *choice) for choice in _choices(spec, width)]
    bodies = [grid.body(limits) for grid in grids]
    return min(bodies, key=lambda body: _cost(spec, body, around))


def bodies_of_width(
    spec: TopNineFigure, limits: Sequence[Sequence[Limit]], width: float
) -> Iterator[TopNineBody]:
    """Yield all bodies for a page of `width` inches, those with the largest blocks first."""
    for columns, wide in sorted(_choices_of_width(spec, width), key=lambda choice: -choice[1]):
        yield _Grid(spec, width, columns, wide).body(limits)


def frames_of(block: Rect, shape: tuple[int, int]) -> Iterator[Rect]:
    """Yield the frames of a block row by row; `shape` is (rows, columns)."""
    rows, columns = shape
    wide = (block.w - (columns - 1) * HAIRLINE) / columns
    high = (block.h - (rows - 1) * HAIRLINE) / rows
    for row in range(rows):
        for column in range(columns):
            yield Rect(block.x + column * (wide + HAIRLINE), block.y + row * (high + HAIRLINE), wide, high)


def top_nine_shows_outside(spec: TopNineFigure) -> bool:
    """Return True if some crop does not fill its frame."""
    return any(
        crop.size != spec.fills_frame(panel, block)
        for panel in spec.panels
        for block in panel.blocks
        for crop in block.crops
    )


@dataclass(frozen=True)
class _Grid:
    """One number of columns (channels side by side) and one width of a block."""

    spec: TopNineFigure
    page: float | None
    columns: int
    wide: float

    @property
    def width(self) -> float:
        return _width(self.spec.style.layout, self.columns, self.wide)

    @property
    def room(self) -> float:
        """Width of the page without margins."""
        page = max(self.width + 2 * MARGIN, COLUMN) if self.page is None else self.page
        return page - 2 * MARGIN

    def body(self, limits: Sequence[Sequence[Limit]]) -> TopNineBody:
        panels: list[PlacedLayer] = []
        y = 0.0
        for number, (panel, of_panel) in enumerate(zip(self.spec.panels, limits, strict=True)):
            panels.append(self._panel(number, panel, of_panel, y))
            y += panels[-1].height + PANEL_GAP
        return TopNineBody(self.columns, self.width, self.room, y - PANEL_GAP, tuple(panels))

    def _panel(self, number: int, panel: LayerPanel, limits: Sequence[Limit], top: float) -> PlacedLayer:
        title = tuple(title_lines(panel.title, self.room, size=_PANEL_TITLE))
        below = top + sum(line.height for line in title) + _BELOW_TITLE
        heads = tuple(self._heads(number, min(self.columns, len(panel.blocks)), below))
        y = below + Line("", SMALL).height + CAPTION_GAP
        texts = [self._caption_lines(block, limit) for block, limit in zip(panel.blocks, limits, strict=True)]
        high = self._block_height(panel)
        blocks: list[PlacedChannel] = []
        for row in range(0, len(panel.blocks), self.columns):
            in_row = slice(row, row + self.columns)
            for column, (block, limit, lines) in enumerate(
                zip(panel.blocks[in_row], limits[in_row], texts[in_row], strict=True)
            ):
                left, right = self._sides(column)
                sides = Rect(left, y, self.wide, high), Rect(right, y, self.wide, high)
                blocks.append(_placed(f"{number}-{row + column}", block, limit, sides, lines))
            y += high + CAPTION_GAP + max(_height(lines) for pair in texts[in_row] for lines in pair)
            y += _ROW_GAP
        caption = Caption(f"panel-{number}", title, 0.0, top)
        return PlacedLayer(panel, caption, heads, tuple(blocks), y - _ROW_GAP - top)

    def _block_height(self, panel: LayerPanel) -> float:
        """Return the height of a block."""
        rows, columns = self.spec.block_shape
        frame = (self.wide - (columns - 1) * HAIRLINE) / columns
        return rows * frame * frame_ratio(panel.largest_crop) + (rows - 1) * HAIRLINE

    def _sides(self, column: int) -> tuple[float, float]:
        """Return the left edges of the projections and of the patches in a column."""
        gap, side = _BLOCK_GAP[self.spec.style.layout], _SIDE_GAP[self.spec.style.layout]
        if self.spec.style.layout == "pairs":
            left = column * (2 * self.wide + side + gap)
            return left, left + self.wide + side
        left = column * (self.wide + gap)
        return left, left + self.columns * (self.wide + gap) - gap + side

    def _heads(self, panel: int, columns: int, y: float) -> Iterator[Caption]:
        """Yield the headings 'projections' and 'patches', once for a panel or once for each pair."""
        for column in range(columns if self.spec.style.layout == "pairs" else 1):
            for name, x in zip(("projections", "patches"), self._sides(column), strict=True):
                yield Caption(f"head-{panel}-{column}-{name}", (_soft(elide(name, self.wide, SMALL)),), x, y)

    def _caption_lines(self, block: ChannelBlock, limit: Limit) -> tuple[Lines, Lines]:
        """Return the lines below the projections of a channel, and those below its patches."""
        more = [clean(block.size)] if block.size.strip() else []
        more += [] if limit.value else ["all zero"]
        caption = [clean(line) for line in block.caption if line.strip()]
        if self.spec.style.layout == "pairs":
            room = 2 * self.wide + _SIDE_GAP["pairs"]
            rest = wrap(" · ".join([*caption, *more]), room, CAPTION)
            return (_name(block, room), *map(_soft, filter(None, rest))), ()
        below = [part for line in caption for part in wrap(line, self.wide, CAPTION)]
        name = _name(block, self.wide)
        under = [part for line in more for part in wrap(line, self.wide, CAPTION)]
        return (name, *map(_soft, under)), (name, *map(_soft, below))


def _placed(
    name: str, block: ChannelBlock, limit: Limit, sides: tuple[Rect, Rect], texts: tuple[Lines, Lines]
) -> PlacedChannel:
    gids = f"caption-{name}", f"patch-caption-{name}"
    captions = tuple(
        Caption(gid, lines, side.x, side.bottom + CAPTION_GAP)
        for gid, lines, side in zip(gids, texts, sides, strict=True)
    )
    return PlacedChannel(block, limit, *sides, captions)


def _choices(spec: TopNineFigure, width: float | None) -> Iterator[tuple[int, float]]:
    """Yield numbers of columns with the widths of their blocks."""
    across = spec.block_shape[1]
    comfort = max(_COMFORT, _CROP_COMFORT * across)
    sizes = [max(crop * across, comfort) for crop in (_WIDEST_CROP.get(across, 0.54), 0.42, _AMPLE)]
    count = max(len(panel.blocks) for panel in spec.panels)
    columns = range(1, count + 1) if spec.style.columns is None else (min(spec.style.columns, count),)
    wide = {c: _wide(spec.style.layout, c, TOP_NINE_PAGE if width is None else width) for c in columns}
    if width is not None:
        return _within(spec.style.layout, width, wide, comfort, sizes[0])
    choices = [(c, min(room, size)) for c, room in wide.items() if room >= comfort for size in sizes]
    return iter(choices or [(columns[0], comfort)])  # a wider page, if the requested columns do not fit


def _within(
    layout: str, width: float, wide: dict[int, float], comfort: float, most: float
) -> Iterator[tuple[int, float]]:
    """Return the numbers of columns, with the widths of their blocks, that fit a page of the given width."""
    for least in (0.9 * comfort, _TIGHT):
        fitting = [(c, min(room, most)) for c, room in wide.items() if room >= least]
        if fitting:
            return iter(fitting)
    fewest = min(wide)
    what, instead = f"{fewest} columns", "fewer columns or a wider figure"
    if fewest == 1:
        what, instead = "projections and patches side by side", "a wider figure"
    needed = math.ceil(100 * (_width(layout, fewest, _TIGHT) + 2 * MARGIN)) / 100
    raise FigureError(
        f"{what} do not fit into a figure {width:g} inches wide: they need {needed:.2f} inches. "
        f"Choose {instead}"
    )


def _choices_of_width(spec: TopNineFigure, width: float) -> Iterator[tuple[int, float]]:
    """Yield numbers of columns with widths of blocks for a page of fixed height.

    For each number of columns, the widest blocks that fit come first, followed by narrower ones.
    """
    across = spec.block_shape[1]
    most = _WIDEST_CROP.get(across, 0.54) * across
    blocks = [block for panel in spec.panels for block in panel.blocks]
    names = max(width_of(clean(block.name), CAPTION) for block in blocks)
    least = min(max(_TIGHT, names), _COMFORT)
    count = max(len(panel.blocks) for panel in spec.panels)
    for columns in range(1, count + 1) if spec.style.columns is None else (min(spec.style.columns, count),):
        wide = min(_wide(spec.style.layout, columns, width), most)
        while wide >= least:
            yield columns, wide
            wide *= 0.95


def _wide(layout: str, columns: int, page: float) -> float:
    """Return the width of a block if the given number of columns fills the page."""
    return (page - 2 * MARGIN - _width(layout, columns, 0.0)) / (2 * columns)


def _width(layout: str, columns: int, wide: float) -> float:
    """Return the width of the body for blocks that are `wide` inches wide."""
    gap, side = _BLOCK_GAP[layout], _SIDE_GAP[layout]
    if layout == "pairs":
        return columns * (2 * wide + side + gap) - gap
    return 2 * (columns * (wide + gap) - gap) + side


def _cost(spec: TopNineFigure, body: TopNineBody, around: float) -> float:
    """Return the cost of a body; lower is better.

    The weights were tuned by eye on figures of 1 to 40 channels and 1 to 5 layers.
    """
    height = body.height + around
    crop = body.panels[0].blocks[0].projections.w / spec.block_shape[1]
    printed = crop * min(1.0, TALLEST / height)  # after a figure that is too high is reduced to one page
    ragged = [-len(panel.panel.blocks) % body.columns / body.columns for panel in body.panels]
    cost = -math.log(min(printed, _AMPLE)) - 0.3 * math.log(printed) + excess(_CROP_COMFORT / crop)
    cost += 0.3 * sum(ragged) / len(ragged) + 0.3 * excess(TOP_NINE_PAGE / body.room)
    cost += 0.08 * min(height, TALLEST) + 0.5 * excess(height / TALLEST)
    return cost + 0.8 * excess(height / (1.25 * body.room))


def _name(block: ChannelBlock, room: float) -> Line:
    return Line(elide(clean(block.name), room, CAPTION), CAPTION, ink=INK)


def _soft(text: str) -> Line:
    return Line(text, CAPTION, ink=SOFT_INK)


def _height(lines: Lines) -> float:
    return sum(line.height for line in lines)
