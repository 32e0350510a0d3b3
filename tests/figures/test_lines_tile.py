"""Tiles with lines: their points, their checks, and how they are drawn on paper and on a page."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.lines import Line2D

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.spec.lines_tile import MOST_POINTS, LinesTile
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.web.report import tile_grid as page
from deconvviz.web.report.embedded import Embedded

TILE = LinesTile(
    np.array([[0.0, 4.0], [2.0, -4.0]]), 10, (-4.0, 4.0), field=(10, 11), zero=True, caption=("a",)
)


def test_points_and_marks_are_shares_of_the_tile() -> None:
    first, second = TILE.lines()
    assert first.tolist() == [[0.25, 0.5], [0.75, 1.0]]
    assert second.tolist() == [[0.25, 0.75], [0.75, 0.0]]
    assert TILE.marks() == [0.5]  # the field begins where the tile does
    assert TILE.zero_at == 0.5
    assert LinesTile(np.ones((1, 2)), 0, (1.0, 2.0), zero=True).zero_at is None
    assert not TILE.plain and LinesTile(np.zeros((1, 2)), 0, (-1.0, 1.0)).plain


def test_long_lines_keep_the_extremes_of_every_part() -> None:
    values = np.random.default_rng(0).normal(size=(1, 10_000))
    values[0, 5678] = 50
    (points,) = LinesTile(values, 0, (-50.0, 50.0)).lines()
    assert len(points) == 2 * MOST_POINTS
    assert points[:, 1].max() == 1.0
    place = points[points[:, 1].argmax(), 0]
    assert place == pytest.approx(0.5678, abs=1 / MOST_POINTS)
    heights = 100 * points[:, 1] - 50
    parts = np.array_split(values[0], MOST_POINTS)
    assert np.allclose(heights[::2], [part.min() for part in parts])
    assert np.allclose(heights[1::2], [part.max() for part in parts])


@pytest.mark.parametrize(
    ("values", "y_range", "message"),
    [
        (np.zeros(3), (0.0, 1.0), r"lines have shape \(3,\)"),
        (np.zeros((1, 0)), (0.0, 1.0), r"lines have shape \(1, 0\)"),
        (np.array([[np.nan]]), (0.0, 1.0), "cannot be drawn"),
        (np.zeros((1, 3)), (1.0, 1.0), "the lower limit must be below the upper limit"),
    ],
)
def test_values_that_cannot_be_drawn_raise(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], y_range: tuple[float, float], message: str
) -> None:
    with pytest.raises(FigureError, match=message):
        LinesTile(values, 0, y_range)


def test_lines_are_drawn_in_their_frame() -> None:
    grid = TileGrid(("t",), ((TILE, GridTile(np.eye(2))), (None, TILE)))
    figure = draw(grid)
    lines = {artist.get_gid(): artist for artist in figure.findobj(Line2D)}
    upper, lower = (np.column_stack(lines[f"tile-0-0-{number}"].get_data()) for number in (0, 1))
    zero = np.column_stack(lines["zero-0-0"].get_data())
    mark = np.column_stack(lines["mark-0-0-0"].get_data())
    width, height = zero[1, 0] - zero[0, 0], mark[0, 1] - mark[1, 1]  # the page counts down from its top
    assert height / width == pytest.approx(11 / 20)
    assert (upper[:, 0] - zero[0, 0]).tolist() == pytest.approx([width / 4, 3 * width / 4])
    assert (mark[0, 1] - upper[:, 1]).tolist() == pytest.approx([height / 2, height])
    assert (mark[0, 1] - lower[:, 1]).tolist() == pytest.approx([3 * height / 4, 0])
    assert {"tile-1-1-0", "tile-1-1-1"} <= set(lines) and "tile-1-0-0" not in lines


def test_lines_are_drawn_on_a_page() -> None:
    block = page.block_of(TileGrid(("t",), ((TILE,),), ("row",)), Embedded())
    (cell,) = block.rows[0].cells
    assert cell is not None and cell.drawn is not None and cell.view is None
    assert cell.drawn.lines == ((1, "50.0,55.0 150.0,0.0"), (2, "50.0,27.5 150.0,110.0"))
    assert (cell.drawn.zero, cell.drawn.marks, cell.name) == (55.0, (100.0,), "row, a")
