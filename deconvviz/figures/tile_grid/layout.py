"""Layout of a tile grid: frames, labels, captions and limits, in inches from the top left of the body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deconvviz.errors import FigureError
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.sizes import CAPTION_GAP, COLUMN, MARGIN, PAGE, TALLEST, frame_ratio
from deconvviz.figures.page.style import CAPTION, SMALL, line_height
from deconvviz.figures.page.text import clean, elide, width_of, wrap, wrap_at_most
from deconvviz.figures.spec.tile_grid import GridTile, LegendEntry, Place, TileGrid

GAP_X, GAP_Y = 0.06, 0.06
_LABEL_GAP = 0.07  # between the tiles of a row and its label or limits
_WIDEST_LABEL = 1.3
_LABEL_SHARE = 0.25  # largest share of the page width for row labels
_MOST_LINES = 4  # largest number of lines in a column label
_TALLEST_LABEL = 1.0  # largest height of an upright column label
_WIDEST = {1: 2.6, 2: 2.0}  # largest width of a tile, by the number of columns
_WIDEST_OF_MANY = 1.4
_COMFORT = 0.34  # smallest width of a tile, unless the page width is given
_LEAST = 0.25  # smallest width of a tile if the page width is given
_SWATCH, _SWATCH_GAP = 0.07, 0.035  # side of the square of a legend entry, and space to its text
_ROUNDING = 0.01  # tolerance, so that a label that just fits is not wrapped

Lines = tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """Lines of text at a position. `soft` text is smaller and grey; `upright` text is one line, rotated."""

    gid: str
    lines: Lines
    x: float
    y: float
    soft: bool = False
    upright: bool = False


@dataclass(frozen=True)
class Swatch:
    """Square in the colour of a legend entry."""

    gid: str
    square: Rect
    colour: str


@dataclass(frozen=True)
class GridBody:
    width: float
    height: float
    page: float
    frames: dict[Place, Rect]  # of all positions, including empty ones
    texts: tuple[Text, ...]
    swatches: tuple[Swatch, ...] = ()

    @property
    def tile_width(self) -> float:
        return self.frames[0, 0].w


def arrange_grid(grid: TileGrid, width: float | None, around: float, *, tallest: float = TALLEST) -> GridBody:
    """Return the body for a page of `width` inches; `around` is the height of title and footer.

    Tiles become narrower until body, title and footer are at most `tallest` inches high, if possible.

    If `width` is None, it is at most one page, and more only if the columns do not fit.
    """
    rows, columns = grid.shape
    inner = (PAGE if width is None else width) - 2 * MARGIN
    label = _label_width(grid.row_labels, inner)
    marks = [_scale_lines(grid, [(row, c) for c in range(columns)]) for row in range(rows)]
    mark = _mark_width(marks) if grid.style.scale == "row" else 0.0
    room = inner - label - mark
    wide = (room + GAP_X) / columns - GAP_X
    least = _COMFORT if width is None else _LEAST
    if width is not None and wide < least:
        needed = math.ceil(100 * (width + columns * (least - wide))) / 100
        raise FigureError(
            f"{columns} columns do not fit into a figure {width:g} inches wide: they need {needed:.2f} "
            "inches. Choose a wider figure or fewer columns"
        )
    wide = min(max(wide, least), _WIDEST.get(columns, _WIDEST_OF_MANY))
    layout = _Layout(grid, wide, label, mark, marks)
    for _ in range(3):  # captions may need more lines if tiles are narrower
        over = layout.height + around - tallest
        if over <= 0:
            break
        narrower = max(layout.wide - over / sum(layout.ratios), min(layout.wide, _COMFORT))
        layout = _Layout(grid, narrower, label, mark, marks)
    return layout.body(max(layout.width + 2 * MARGIN, COLUMN) if width is None else width)


class _Layout:
    """Measures of a grid whose tiles are `wide` inches wide."""

    def __init__(
        self, grid: TileGrid, wide: float, label: float, mark: float, marks: Sequence[Lines]
    ) -> None:
        self.grid, self.wide, self.label = grid, wide, label
        self.row_scales = [_wrapped(lines, mark - _LABEL_GAP, SMALL) if mark else () for lines in marks]
        self.rows, self.columns = grid.shape
        self.ratios = [frame_ratio(grid.largest_in_row(row)) for row in range(self.rows)]
        labels = [clean(text) for text in grid.column_labels]
        words = [word for label in labels for word in label.split()]
        self.upright = any(width_of(word, CAPTION) > wide for word in words)
        self.column_labels = [
            (elide(label, _TALLEST_LABEL, CAPTION),)
            if self.upright
            else wrap_at_most(label, wide, CAPTION, _MOST_LINES)
            for label in labels
        ]
        self.captions = {place: self._caption(place) for place in self._places()}
        self.width = label + self.columns * (wide + GAP_X) - GAP_X + mark
        self.tops = self._tops()
        below = [
            _scale_lines(grid, [(row, column) for row in range(self.rows)])
            for column in range(self.columns if grid.style.scale == "column" else 0)
        ]
        self.below = [_wrapped(lines, wide, SMALL) for lines in below]
        self.height = self.tops[-1] - GAP_Y + _below_height(self.below)

    def body(self, page: float) -> GridBody:
        frames = {place: self._frame(place) for place in self._places()}
        legends, swatches = self._legends(frames)
        texts = [*self._column_texts(), *self._row_texts(), *self._caption_texts(frames), *legends]
        return GridBody(self.width, self.height, page, frames, tuple(texts), tuple(swatches))

    def _places(self) -> list[Place]:
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]

    def _tops(self) -> list[float]:
        """Return the top of each row, and the bottom of the last row."""
        labels = max(map(self._label_height, self.column_labels), default=0.0)
        tops = [labels + (CAPTION_GAP if labels else 0)]
        for row, ratio in enumerate(self.ratios):
            most = max(self._lines_below((row, column)) for column in range(self.columns))
            caption = CAPTION_GAP + most * line_height(CAPTION) if most else 0.0
            tile = max(self.wide * ratio, len(self.row_scales[row]) * line_height(SMALL))
            tops.append(tops[-1] + tile + caption + GAP_Y)
        return tops

    def _label_height(self, lines: Lines) -> float:
        if self.upright:
            return max(width_of(line, CAPTION) for line in lines) + _ROUNDING
        return len(lines) * line_height(CAPTION)

    def _frame(self, place: Place) -> Rect:
        row, column = place
        x = self.label + column * (self.wide + GAP_X)
        return Rect(x, self.tops[row], self.wide, self.wide * self.ratios[row])

    def _caption(self, place: Place) -> Lines:
        tile = self.grid.tiles[place[0]][place[1]]
        if tile is None:
            return ()
        own = _scale_lines(self.grid, [place]) if self.grid.style.scale == "tile" else ()
        return _wrapped([*map(clean, tile.caption), *own], self.wide, CAPTION)

    def _lines_below(self, place: Place) -> int:
        return len(self.captions[place]) + len(self._legend(place))

    def _legend(self, place: Place) -> tuple[LegendEntry, ...]:
        tile = self.grid.tiles[place[0]][place[1]]
        return tile.legend if isinstance(tile, GridTile) else ()

    def _legends(self, frames: dict[Place, Rect]) -> tuple[list[Text], list[Swatch]]:
        """Return the texts and the squares of the legends, below the captions."""
        texts, swatches = [], []
        indent = _SWATCH + _SWATCH_GAP
        for place, frame in frames.items():
            top = frame.bottom + CAPTION_GAP + len(self.captions[place]) * line_height(CAPTION)
            for number, entry in enumerate(self._legend(place)):
                y = top + number * line_height(CAPTION)
                gid = f"{place[0]}-{place[1]}-{number}"
                line = elide(clean(entry.text), frame.w - indent, CAPTION)
                texts.append(Text(f"legend-{gid}", (line,), frame.x + indent, y))
                middle = y + line_height(CAPTION) / 2
                square = Rect(frame.x, middle - _SWATCH / 2, _SWATCH, _SWATCH)
                swatches.append(Swatch(f"swatch-{gid}", square, entry.colour))
        return texts, swatches

    def _column_texts(self) -> list[Text]:
        texts = []
        foot = self.tops[0] - CAPTION_GAP
        for column, lines in enumerate(self.column_labels):
            frame, height = self._frame((0, column)), self._label_height(lines)
            gid = f"column-label-{column}"
            if self.upright:
                x = frame.centre[0] - line_height(CAPTION) / 2
                texts.append(Text(gid, lines, x, foot - height / 2, upright=True))
            else:
                texts.append(Text(gid, lines, frame.x, foot - height))
        for column, lines in enumerate(self.below):
            x, y = self._frame((0, column)).x, self.tops[-1] - GAP_Y + CAPTION_GAP
            texts.append(Text(f"column-scale-{column}", lines, x, y, soft=True))
        return texts

    def _row_texts(self) -> list[Text]:
        texts = []
        for row, label in enumerate(self.grid.row_labels):
            frame = self._frame((row, 0))
            most = max(int(frame.h / line_height(CAPTION)), 1)
            lines = _label_lines(label, self.label - _LABEL_GAP)
            if len(lines) > most:
                rest = elide(" ".join(lines[most - 1 :]), self.label - _LABEL_GAP, CAPTION)
                lines = (*lines[: most - 1], rest)
            y = frame.centre[1] - len(lines) * line_height(CAPTION) / 2
            texts.append(Text(f"row-label-{row}", lines, 0.0, y))
        for row, lines in enumerate(self.row_scales):
            frame = self._frame((row, self.columns - 1))
            y = max(frame.centre[1] - len(lines) * line_height(SMALL) / 2, frame.y)
            texts.append(Text(f"row-scale-{row}", lines, frame.right + _LABEL_GAP, y, soft=True))
        return texts

    def _caption_texts(self, frames: dict[Place, Rect]) -> list[Text]:
        return [
            Text(
                f"caption-{row}-{column}",
                lines,
                frames[row, column].x,
                frames[row, column].bottom + CAPTION_GAP,
            )
            for (row, column), lines in self.captions.items()
            if lines
        ]


def shows_outside(grid: TileGrid) -> bool:
    """Return True if some tile is cut at the image border, so that it does not fill its frame."""
    return any(
        isinstance(tile, GridTile) and is_cut(tile, grid, row)
        for row, tiles in enumerate(grid.tiles)
        for tile in tiles
    )


def is_cut(tile: GridTile, grid: TileGrid, row: int) -> bool:
    """Return True if a tile is cut at the image border and smaller than its frame."""
    return tile.values is not None and any(tile.cut) and tile.size != grid.largest_in_row(row)


def _scale_lines(grid: TileGrid, places: Sequence[Place]) -> Lines:
    """Return the limits of signed tiles and the intervals of maps as text, without repetition."""
    if not grid.style.limits:
        return ()
    signed = [str(grid.limits[place]) if grid.limits[place].value else "all zero"
              for place in places if place in grid.limits]  # fmt: skip
    map_places = () if grid.map_interval is not None else places
    maps = [str(grid.intervals[place]) for place in map_places if place in grid.intervals]
    return tuple(dict.fromkeys((*signed, *maps)))


def _label_width(labels: Sequence[str], inner: float) -> float:
    if not any(label.strip() for label in labels):
        return 0.0
    most = min(_WIDEST_LABEL, _LABEL_SHARE * inner)
    lines = [line for label in labels for line in _label_lines(label, most)]
    return max(width_of(line, CAPTION) for line in lines) + _ROUNDING + _LABEL_GAP


def _label_lines(label: str, room: float) -> Lines:
    """Return the lines of a row label; a line break in the label starts a new line."""
    return _wrapped([clean(line) for line in label.split("\n")], room, CAPTION)


def _mark_width(marks: Sequence[Lines]) -> float:
    """Return the width for the limits of rows: the longest number, and '… ' before it for an interval."""
    lines = [line for of_row in marks for line in of_row]
    widest = max((width_of(word, SMALL) for line in lines for word in line.split(" ")), default=0.0)
    dots = width_of("… ", SMALL) if any("…" in line for line in lines) else 0.0
    return widest + dots + _ROUNDING + _LABEL_GAP if lines else 0.0


def _wrapped(lines: Sequence[str], room: float, size: float) -> Lines:
    return tuple(part for line in lines for part in wrap(line, room, size))


def _below_height(below: Sequence[Lines]) -> float:
    most = max((len(lines) for lines in below), default=0)
    return CAPTION_GAP + most * line_height(SMALL) if most else 0.0
