"""Choose the grid of a sheet: measure every combination of columns, frame size and image; take the cheapest.

The image is to the left of the grid, above it, or in its top left corner, where it takes the first columns
of the first rows.
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
from deconvviz.figures.spec.sheet import Sheet

GAP_X, GAP_Y = 0.14, 0.1
IMAGE_GAP = 0.2

_NARROWEST = {1: 0.6, 2: 0.84}  # inches that a tile needs for its caption, by its number of frames
_WIDEST_FRAMES = (0.7, 0.95, 1.4, 2.2)
_TALLEST_IMAGE = 4.0
# Widths of the image to try: as shares of the page if it is left of the grid, of the grid if it is above.
_SHARES_LEFT = tuple(0.01 * percent for percent in range(14, 61, 2))
_SHARES_ABOVE = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_COMFORT = 0.58  # inches; a smaller frame is hard to read
_AMPLE = 1.25  # inches; a larger frame is not easier to read
_LINES_WITHIN = 3  # lines of a caption on a page of fixed height


@dataclass(frozen=True)
class Grid:
    """Measures of one grid, in inches from the top left corner of image and tiles together."""

    columns: int
    pitch: float  # from one tile's left edge to the next
    row_height: float
    frame: tuple[float, float]  # (width, height) of a patch's or projection's frame
    left: float  # left edge of the first column
    top: float  # top edge of the first row
    taken: int  # number of columns that the image takes in the short rows
    short_rows: int
    rows: int
    width: float
    height: float
    image: Rect | None
    image_note: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]

    @property
    def lines(self) -> int:
        """Number of lines of the longest caption."""
        return max(len(caption) for caption in self.captions)

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield the (row, column) of each tile in order."""
        for row in range(self.rows):
            for column in range(self.taken if row < self.short_rows else 0, self.columns):
                yield row, column


@dataclass(frozen=True)
class _Choice:
    columns: int
    pitch: float
    taken: int
    image: Rect | None
    image_left: bool  # the image is left of the grid, not above or in it


def choose_grid(sheet: Sheet, width: float | None, around: float) -> Grid:
    """Return the best grid for a page of `width` inches; `around` is the height of title and footer.

    If `width` is None, the page is PAGE wide, and wider if the requested columns do not fit.
    """
    page = PAGE if width is None else width
    room = None if width is None else page - 2 * MARGIN
    texts = _Texts(sheet)
    while True:
        if grids := _grids(sheet, page, texts):
            return min(grids, key=lambda grid: _cost(sheet, grid, room or grid.width, around))
        if width is not None:
            problem = f"{sheet.style.columns} columns do not fit" if sheet.style.columns else "no tile fits"
            raise FigureError(
                f"{problem} into a figure {width:g} inches wide: a tile needs about "
                f"{_NARROWEST[frame_count(sheet)] + GAP_X:.2g} inches. Choose fewer columns or a wider figure"
            )
        page *= 1.05


def choose_grid_within(sheet: Sheet, width: float, tallest: float) -> tuple[float, Grid] | None:
    """Return the cost and the best grid that is at most `tallest` inches high, for a page of `width` inches.

    Return None if every grid is higher, or if captions would take too many lines.
    """
    most = max(_LINES_WITHIN, *(len(tile.caption) for tile in sheet.tiles))
    grids = [
        grid for grid in _grids(sheet, width, _Texts(sheet)) if grid.height <= tallest and grid.lines <= most
    ]
    costs = [(_cost_within(sheet, grid, width), grid) for grid in grids]
    return min(costs, key=lambda pair: pair[0], default=None)


def _grids(sheet: Sheet, page: float, texts: _Texts) -> list[Grid]:
    measured = (_measure(sheet, choice, texts) for choice in dict.fromkeys(_choices(sheet, page)))
    return [grid for grid in measured if grid is not None]


def frame_count(sheet: Sheet) -> int:
    """Return the number of frames in a tile."""
    return 1 if sheet.style.projection_only else 2


def widest_badge(sheet: Sheet) -> float:
    return max(badge_width(tile.number) for tile in sheet.tiles)


class _Texts:
    """Texts below the image and the tiles. Captions are wrapped once for each width."""

    def __init__(self, sheet: Sheet) -> None:
        self._badge_width = widest_badge(sheet) + 0.03
        self._lines = [[clean(line) for line in tile.caption] for tile in sheet.tiles]
        self.image_note = _image_note(sheet)
        self._wrapped: dict[int, tuple[tuple[str, ...], ...]] = {}

    def wrapped(self, tile_width: float) -> tuple[tuple[str, ...], ...]:
        """Return the lines of each caption for tiles of this width."""
        # Widths are rounded down to 1/25 inch, so that similar widths share one result.
        steps = int((tile_width - self._badge_width) * 25)
        if steps not in self._wrapped:
            self._wrapped[steps] = tuple(
                tuple(part for line in lines for part in wrap(line, steps / 25, CAPTION))
                for lines in self._lines
            )
        return self._wrapped[steps]


def _choices(sheet: Sheet, page: float) -> Iterator[_Choice]:
    count, frames = len(sheet.tiles), frame_count(sheet)
    inner = page - 2 * MARGIN
    for columns in range(1, count + 1) if sheet.style.columns is None else (min(sheet.style.columns, count),):
        for widest in _WIDEST_FRAMES:
            most = max(widest * frames, _NARROWEST[frames])
            width = min((inner + GAP_X) / columns - GAP_X, most)
            if sheet.image is not None:
                yield from _choices_left(sheet, columns, inner, most)
            if width < _NARROWEST[frames]:
                continue
            if sheet.image is None:
                yield _Choice(columns, width + GAP_X, 0, None, False)
            else:
                yield from _choices_above(sheet, columns, width + GAP_X)


def _choices_left(sheet: Sheet, columns: int, inner: float, most: float) -> Iterator[_Choice]:
    for share in _SHARES_LEFT:
        image = _image(sheet, inner * share)
        width = min((inner - image.w - IMAGE_GAP + GAP_X) / columns - GAP_X, most)
        if width >= _NARROWEST[frame_count(sheet)]:
            yield _Choice(columns, width + GAP_X, 0, image, True)


def _choices_above(sheet: Sheet, columns: int, pitch: float) -> Iterator[_Choice]:
    # If the number of columns is given, every row has all of them, and the image takes none.
    for taken in range(1, columns) if sheet.style.columns is None else ():
        yield _Choice(columns, pitch, taken, _image(sheet, taken * pitch - IMAGE_GAP), False)
    for share in _SHARES_ABOVE:
        yield _Choice(columns, pitch, columns, _image(sheet, (columns * pitch - GAP_X) * share), False)


def _image(sheet: Sheet, width: float) -> Rect:
    high, wide = sheet.image_size
    height = min(width * high / wide, _TALLEST_IMAGE)
    return Rect(0, 0, height * wide / high, height)


def _measure(sheet: Sheet, choice: _Choice, texts: _Texts) -> Grid | None:
    count, image, columns = len(sheet.tiles), choice.image, choice.columns
    ratio = frame_ratio(sheet.largest_crop)
    wide = min((choice.pitch - GAP_X) / frame_count(sheet), _WIDEST_FRAMES[-1] / max(ratio, 1.0))
    wrapped = texts.wrapped(choice.pitch - GAP_X)
    lines = max(len(caption) for caption in wrapped)
    row_height = wide * ratio + CAPTION_GAP + lines * line_height(CAPTION) + GAP_Y

    notes = wrap(texts.image_note, image.w, SMALL) if image and texts.image_note else ()
    blocked = 0.0 if image is None else image.h + (0.03 + len(notes) * line_height(SMALL) if notes else 0)
    left = image.w + IMAGE_GAP if image and choice.image_left else 0.0
    inside = image is not None and 0 < choice.taken < columns
    short_rows = math.ceil((blocked + GAP_Y) / row_height - 1e-6) if inside else 0
    top = blocked + GAP_Y if choice.taken == columns else 0.0
    longer = count - short_rows * (columns - choice.taken)
    if inside and longer <= 0:  # no full row: the same as an image left of fewer columns
        return None
    rows = short_rows + math.ceil(longer / columns)
    width = left + min(columns, count if not inside else columns) * choice.pitch - GAP_X
    return Grid(
        columns=columns, pitch=choice.pitch, row_height=row_height, frame=(wide, wide * ratio),
        left=left, top=top, taken=choice.taken, short_rows=short_rows, rows=rows,
        width=max(width, image.w if image else 0.0),
        height=max(top + rows * row_height - GAP_Y, blocked),
        image=image, image_note=notes, captions=wrapped,
    )  # fmt: skip


def _cost(sheet: Sheet, grid: Grid, room: float, around: float) -> float:
    """Return the cost of a grid; lower is better.

    The weights were tuned by eye on sheets of 1 to 64 tiles and images from 1:3 to 3:1.
    """
    count, (wide, high) = len(sheet.tiles), grid.frame
    used = count * frame_count(sheet) * wide * high + (grid.image.area if grid.image else 0)
    ragged = -(count + grid.short_rows * grid.taken) % grid.columns / grid.columns
    height = grid.height + around
    cost = 2.0 * (1 - used / (room * grid.height)) + 0.3 * ragged + 0.2 * max(grid.lines - 2, 0)
    cost += 1.5 * excess(_COMFORT / min(wide, high)) + 0.3 * excess(min(wide, high) / _AMPLE)
    cost += 0.08 * height + 0.8 * excess(height / (1.25 * room)) + 0.4 * max(height - TALLEST, 0)
    if grid.image is not None:
        side = math.sqrt(grid.image.area)
        cost += 0.8 * excess(1.8 / side) + 0.8 * excess(side / 2.8)
        cost += 1.5 * excess(count * 0.12 / grid.image.area)  # 0.12: about six times the area of a number
    return cost


def _cost_within(sheet: Sheet, grid: Grid, width: float) -> float:
    """Return the cost of a grid on a page of fixed size, where frames and image should be large."""
    cost = excess(0.14 * width / min(grid.frame)) + 0.2 * max(grid.lines - 2, 0)
    cost += 0.5 * (-(len(sheet.tiles) + grid.short_rows * grid.taken) % grid.columns / grid.columns)
    if grid.image is not None:
        side = math.sqrt(grid.image.area)
        cost += excess(0.32 * width / side) + 1.5 * excess(len(sheet.tiles) * 0.12 / grid.image.area)
    return cost


def _image_note(sheet: Sheet) -> str:
    """Return the text below the image: the meaning of the boxes, and the tiles that have none."""
    notes = []
    if any(sheet.dashed(tile) is not None for tile in sheet.tiles):
        notes.append(f"solid box: area shown · dashed box: {sheet.field_name}")
    if whole := [tile for tile in sheet.tiles if sheet.field_covers_image(tile)]:
        dots = any(tile.centre is not None and sheet.outlined(tile) is None for tile in whole)
        numbers = "all" if len(whole) == len(sheet.tiles) > 1 else _runs([tile.number for tile in whole])
        centre = " (dot: its centre)" if dots else ""
        notes.append(f"{numbers}: {sheet.field_name} is the whole image{centre}")
    return " · ".join(notes)


def _runs(numbers: list[int]) -> str:
    """Return numbers as text with ranges: 1, 2, 3, 7 -> '1–3, 7'."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
