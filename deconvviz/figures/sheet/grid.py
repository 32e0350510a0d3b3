"""Which grid: every choice of columns, frame size and picture is measured, and the cheapest is taken.

The picture stands left of the grid, above it, or in its corner: there it takes the first columns of the
first rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from deconvviz.errors import FigureError
from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import badge_width
from deconvviz.figures.page.sizes import CAPTION_GAP, MARGIN, PAGE, TALLEST, excess, frame_ratio
from deconvviz.figures.page.style import CAPTION, SMALL, line_height
from deconvviz.figures.page.text import clean, wrap
from deconvviz.figures.spec.colour import limit_of
from deconvviz.figures.spec.sheet import Sheet, Tile

GAP_X, GAP_Y = 0.14, 0.1
PICTURE_GAP = 0.2
ROW_MARK = 0.14  # for the limit at the right of each row

_NARROWEST = {1: 0.6, 2: 0.84}  # inches a tile needs for its caption, by its number of frames
_WIDEST_FRAMES = (0.7, 0.95, 1.4, 2.2)
_TALLEST_PICTURE = 4.0
_SHARES_BESIDE = tuple(0.01 * percent for percent in range(14, 61, 2))  # of the page's width, for the picture
_SHARES_ABOVE = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_COMFORT = 0.58  # a frame below this many inches is hard to read
_AMPLE = 1.25  # and above this needs no more


@dataclass(frozen=True)
class Grid:
    """The measures of one choice, in inches from the corner (0, 0) of picture and tiles together."""

    columns: int
    pitch: float  # from one tile's left edge to the next
    row_height: float
    frame: tuple[float, float]  # (width, height) of a patch's or projection's frame
    left: float  # of the first column
    top: float  # of the first row
    taken: int  # columns of the short rows that the picture takes
    short_rows: int
    rows: int
    width: float
    height: float
    picture: Rect | None
    picture_note: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]

    def places(self) -> Iterator[tuple[int, int]]:
        """(row, column) of one tile after the other."""
        for row in range(self.rows):
            for column in range(self.taken if row < self.short_rows else 0, self.columns):
                yield row, column


@dataclass(frozen=True)
class _Choice:
    columns: int
    pitch: float
    taken: int
    picture: Rect | None
    beside: bool  # picture left of the grid instead of above or in it


def choose_grid(sheet: Sheet, width: float | None, around: float) -> Grid:
    """For a page of `width` inches; `around` is the height of title and footer.

    Without a width it is PAGE, wider where the columns asked for need it, and narrower where little is shown.
    """
    page = PAGE if width is None else width
    room = None if width is None else page - 2 * MARGIN
    words = _Words(sheet)
    while True:
        grids = [
            grid
            for choice in dict.fromkeys(_choices(sheet, page))
            if (grid := _measure(sheet, choice, words))
        ]
        if grids:
            return min(grids, key=lambda grid: _cost(sheet, grid, room or grid.width, around))
        if width is not None:
            asked = f"{sheet.style.columns} columns do not fit" if sheet.style.columns else "no tile fits"
            raise FigureError(
                f"{asked} into a figure {width:g} inches wide: a tile needs about "
                f"{_NARROWEST[halves(sheet)] + GAP_X:.2g} inches; ask for fewer columns or a wider figure"
            )
        page *= 1.05


def halves(sheet: Sheet) -> int:
    """Frames in a tile."""
    return 1 if sheet.style.projection_only else 2


def widest_badge(sheet: Sheet) -> float:
    return max(badge_width(tile.number) for tile in sheet.tiles)


class _Words:
    """What stands below picture and tiles; captions are wrapped once for each width asked for."""

    def __init__(self, sheet: Sheet) -> None:
        self.beside = widest_badge(sheet) + 0.03
        lines = [tile.caption for tile in sheet.tiles]
        if sheet.style.scale == "tile":
            limits = [limit_of([tile.projection], percentile=sheet.style.percentile) for tile in sheet.tiles]
            lines = [(*given, f"full colour {limit}") for given, limit in zip(lines, limits, strict=True)]
        self._lines = [[clean(line) for line in given] for given in lines]
        whole = [tile for tile in sheet.tiles if sheet.covers_picture(tile)]
        self.picture_note = _whole_picture_note(whole)
        self._wrapped: dict[int, tuple[tuple[str, ...], ...]] = {}

    def wrapped(self, tile_width: float) -> tuple[tuple[str, ...], ...]:
        # Widths that differ by less than 1/25 inch share one wrapping, the narrower.
        steps = int((tile_width - self.beside) * 25)
        if steps not in self._wrapped:
            self._wrapped[steps] = tuple(
                tuple(part for line in lines for part in wrap(line, steps / 25, CAPTION))
                for lines in self._lines
            )
        return self._wrapped[steps]


def _choices(sheet: Sheet, page: float) -> Iterator[_Choice]:
    count, frames = len(sheet.tiles), halves(sheet)
    inner = page - 2 * MARGIN - (ROW_MARK if sheet.style.scale == "row" else 0)
    for columns in range(1, count + 1) if sheet.style.columns is None else (min(sheet.style.columns, count),):
        for widest in _WIDEST_FRAMES:
            most = max(widest * frames, _NARROWEST[frames])
            width = min((inner + GAP_X) / columns - GAP_X, most)
            if sheet.picture is not None:
                yield from _beside(sheet, columns, inner, most)
            if width < _NARROWEST[frames]:
                continue
            if sheet.picture is None:
                yield _Choice(columns, width + GAP_X, 0, None, False)
            else:
                yield from _above(sheet, columns, width + GAP_X)


def _beside(sheet: Sheet, columns: int, inner: float, most: float) -> Iterator[_Choice]:
    for share in _SHARES_BESIDE:
        picture = _picture(sheet, inner * share)
        width = min((inner - picture.w - PICTURE_GAP + GAP_X) / columns - GAP_X, most)
        if width >= _NARROWEST[halves(sheet)]:
            yield _Choice(columns, width + GAP_X, 0, picture, True)


def _above(sheet: Sheet, columns: int, pitch: float) -> Iterator[_Choice]:
    # Where a person asked for columns every row has them, so that the picture takes none.
    for taken in range(1, columns) if sheet.style.columns is None else ():
        yield _Choice(columns, pitch, taken, _picture(sheet, taken * pitch - PICTURE_GAP), False)
    for share in _SHARES_ABOVE:
        yield _Choice(columns, pitch, columns, _picture(sheet, (columns * pitch - GAP_X) * share), False)


def _picture(sheet: Sheet, width: float) -> Rect:
    high, wide = sheet.picture_size
    height = min(width * high / wide, _TALLEST_PICTURE)
    return Rect(0, 0, height * wide / high, height)


def _measure(sheet: Sheet, choice: _Choice, words: _Words) -> Grid | None:
    count, picture, columns = len(sheet.tiles), choice.picture, choice.columns
    ratio = frame_ratio(sheet.largest_crop)
    wide = min((choice.pitch - GAP_X) / halves(sheet), _WIDEST_FRAMES[-1] / max(ratio, 1.0))
    wrapped = words.wrapped(choice.pitch - GAP_X)
    lines = max(len(caption) for caption in wrapped)
    row_height = wide * ratio + CAPTION_GAP + lines * line_height(CAPTION) + GAP_Y

    notes = wrap(words.picture_note, picture.w, SMALL) if picture and words.picture_note else ()
    blocked = 0.0 if picture is None else picture.h + (0.03 + len(notes) * line_height(SMALL) if notes else 0)
    left = picture.w + PICTURE_GAP if picture and choice.beside else 0.0
    inside = picture is not None and 0 < choice.taken < columns
    short_rows = math.ceil((blocked + GAP_Y) / row_height - 1e-6) if inside else 0
    top = blocked + GAP_Y if choice.taken == columns else 0.0
    longer = count - short_rows * (columns - choice.taken)
    if inside and longer <= 0:  # no full row: the same as a picture beside fewer columns
        return None
    rows = short_rows + math.ceil(longer / columns)
    width = left + min(columns, count if not inside else columns) * choice.pitch - GAP_X
    return Grid(
        columns=columns, pitch=choice.pitch, row_height=row_height, frame=(wide, wide * ratio),
        left=left, top=top, taken=choice.taken, short_rows=short_rows, rows=rows,
        width=max(width, picture.w if picture else 0.0) + (ROW_MARK if sheet.style.scale == "row" else 0),
        height=max(top + rows * row_height - GAP_Y, blocked),
        picture=picture, picture_note=notes, captions=wrapped,
    )  # fmt: skip


def _cost(sheet: Sheet, grid: Grid, room: float, around: float) -> float:
    """Weights found by looking at sheets of 1 to 64 tiles and pictures from 1:3 to 3:1."""
    count, (wide, high) = len(sheet.tiles), grid.frame
    used = count * halves(sheet) * wide * high + (grid.picture.area if grid.picture else 0)
    ragged = -(count + grid.short_rows * grid.taken) % grid.columns / grid.columns
    lines = max(len(caption) for caption in grid.captions)
    height = grid.height + around
    cost = 2.0 * (1 - used / (room * grid.height)) + 0.3 * ragged + 0.2 * max(lines - 2, 0)
    cost += 1.5 * excess(_COMFORT / min(wide, high)) + 0.3 * excess(min(wide, high) / _AMPLE)
    cost += 0.08 * height + 0.8 * excess(height / (1.25 * room)) + 0.4 * max(height - TALLEST, 0)
    if grid.picture is not None:
        side = math.sqrt(grid.picture.area)
        cost += 0.8 * excess(1.8 / side) + 0.8 * excess(side / 2.8)
        cost += 1.5 * excess(count * 0.12 / grid.picture.area)  # about six times the area of the numbers
    return cost


def _whole_picture_note(whole: list[Tile]) -> str:
    """Names the tiles whose box would be the picture's own border."""
    if not whole:
        return ""
    dots = " (dot: centre of the field)" if any(tile.centre is not None for tile in whole) else ""
    return f"{_runs([tile.number for tile in whole])}: the whole picture{dots}"


def _runs(numbers: list[int]) -> str:
    """1, 2, 3, 7 -> '1–3, 7'."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
