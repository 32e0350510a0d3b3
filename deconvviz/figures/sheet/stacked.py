"""Draw several sheets below each other with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from deconvviz.figures.page.compose import Corner, compose, height_around
from deconvviz.figures.page.footer import Footer, signed_key
from deconvviz.figures.page.medium import Fit, Page, draw_slide, page_width_for
from deconvviz.figures.page.page import Line, Paper, set_colour_scale
from deconvviz.figures.page.sizes import COLUMN, MARGIN
from deconvviz.figures.page.style import SUBTITLE, line_height, sheet_style
from deconvviz.figures.page.text import clean
from deconvviz.figures.sheet.draw import Painter
from deconvviz.figures.sheet.layout import Body, arrange, arrange_within
from deconvviz.figures.sheet.scale_text import scale_line
from deconvviz.figures.spec.colour import Limit, limits
from deconvviz.figures.spec.sheets import Sheets
from deconvviz.figures.spec.validation import check_width

_BELOW_TITLE = 0.07
_BETWEEN = 0.16  # inches between rows
_HEADING = line_height(SUBTITLE) + 0.05


def draw_sheets(spec: Sheets, *, width: float | None = None) -> Figure:
    """Draw a figure of several inputs, `width` inches wide; None chooses a width of at most one page."""
    check_width(width)
    with sheet_style():
        if spec.style.medium == "slide":
            return draw_slide(width, lambda page: _fit(spec, page))
        page_width = page_width_for(spec.style.medium, width)
        around = height_around(spec.title)
        stack = _Stack(tuple(arrange(row.sheet, page_width, around) for row in spec.rows))
        page = Page(max(stack.width + 2 * MARGIN, COLUMN) if page_width is None else page_width)
        return _draw(spec, stack, page)


@dataclass(frozen=True)
class _Stack:
    """The bodies of all rows, each below a heading."""

    bodies: tuple[Body, ...]

    @property
    def width(self) -> float:
        return max(body.width for body in self.bodies)

    @property
    def height(self) -> float:
        return sum(body.height + _HEADING for body in self.bodies) + _BETWEEN * (len(self.bodies) - 1)

    def tops(self) -> list[float]:
        """Return the top edge of each heading."""
        tops, at = [], 0.0
        for body in self.bodies:
            tops.append(at)
            at += body.height + _HEADING + _BETWEEN
        return tops


def _fit(spec: Sheets, page: Page) -> Fit | None:
    """Return the best layout for a page of fixed height, or None if the rows do not fit."""
    footer = _footer(spec, [Limit(1.0, spec.style.percentile, 1.0)], page.width)
    room = page.body_room(spec.title, footer.height, _BELOW_TITLE) - _BETWEEN * (len(spec.rows) - 1)
    tallest = room / len(spec.rows) - _HEADING
    found = [arrange_within(row.sheet, page.width, tallest) for row in spec.rows]
    kept = [one for one in found if one is not None]
    if len(kept) < len(found):
        return None
    stack = _Stack(tuple(body for _, body in kept))
    return Fit(sum(cost for cost, _ in kept), partial(_draw, spec, stack, page))


def _draw(spec: Sheets, stack: _Stack, page: Page) -> Figure:
    groups: list[int] = []  # the row of tiles of each tile, counted over all sheets
    for body in stack.bodies:
        first = max(groups, default=-1) + 1
        groups += [first + cell.row for cell in body.cells]
    projections = [tile.projection for row in spec.rows for tile in row.sheet.tiles]
    scale = limits(projections, spec.style.scale, groups, percentile=spec.style.percentile)

    def paint(paper: Paper, corner: Corner) -> None:
        x, y = corner
        rest = list(scale)
        for row, body, top in zip(spec.rows, stack.bodies, stack.tops(), strict=True):
            before = {id(artist) for artist in _named(paper.figure)}
            paper.lines([Line(clean(row.name), SUBTITLE, bold=True)], x, y + top, "input")
            own, rest = rest[: len(body.cells)], rest[len(body.cells) :]
            Painter(paper, row.sheet, (x, y + top + _HEADING)).paint(body, tuple(own))
            for artist in _named(paper.figure):
                if id(artist) not in before:
                    artist.set_gid(f"{row.name}-{artist.get_gid()}")

    figure = compose(
        spec.title, _footer(spec, scale, page.width), (stack.width, stack.height), paint, page,
        below_title=_BELOW_TITLE,
    )  # fmt: skip
    keys = {"sheet": [0] * len(groups), "row": groups, "tile": list(range(len(groups)))}[spec.style.scale]
    units = spec.rows[0].sheet.units
    set_colour_scale(figure, units, list(dict(zip(keys, scale, strict=True)).values()))
    return figure


def _named(figure: Figure) -> list[Artist]:
    return figure.findobj(lambda artist: artist.get_gid() is not None)


def _footer(spec: Sheets, scale: Sequence[Limit], width: float) -> Footer:
    line = scale_line(spec.rows[0].sheet, scale)
    return Footer([signed_key()], line, spec.footer, width - 2 * MARGIN)
