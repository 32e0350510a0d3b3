"""Validation of tile grids before they are drawn, and computation of their colours and scales."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deconvviz.errors import FigureError
from deconvviz.figures.spec.crop import Cut
from deconvviz.figures.spec.heat import Interval, heat_rgb, interval_of
from deconvviz.figures.spec.style import GRID_SCALES, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid

GREY = np.full((4, 6, 3), 0.5)
values = st.floats(-1e6, 1e6, allow_subnormal=False)


def grid(*rows: list[GridTile | None], **changes: object) -> TileGrid:
    return TileGrid(**{"title": ("net",), "tiles": rows or ([GridTile(GREY)],), **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridTile(GREY, "photo"), "unknown kind of tile 'photo': choose from signed, image, map"),
        (lambda: GridTile(GREY * 9, "image"), "tile: image has values from 4.5 to 4.5: colours must be"),
        (lambda: GridTile(GREY, "map"), "tile: map has shape (4, 6, 3): it must be (height, width)"),
        (lambda: GridTile(GREY * np.nan), "tile: signed cannot be drawn: 72 of its values are NaN"),
        (lambda: GridTile(np.zeros((4, 6, 5))), "choose one or three of them"),
        (lambda: GridTile(None), "a tile without values needs a note. Say what is missing"),
        (lambda: GridTile(None, note="x", marks=(Mark((0, 0, 1, 1)),)), "cannot have marks"),
        (lambda: GridTile(GREY, note=3), "tile: note must be text, not 3"),
        (lambda: GridTile(GREY, marks=(Mark((0, 0, 7, 4)),)), "is not inside the tile of 6x4 px"),
        (lambda: Mark((0, 0, 0, 4)), "is empty or has negative coordinates"),
        (lambda: Mark((0, 0, 1, 4), 1.5), "mark number 1.5"),
        (lambda: grid([None]), "a tile grid needs at least one tile"),
        (lambda: TileGrid(("net",), ()), "a tile grid needs at least one tile"),
        (
            lambda: grid([GridTile(GREY)], [None, None]),
            "rows of 1 and of 2 tiles: all rows must have the same length",
        ),
        (lambda: grid(row_labels=("a", "b")), "2 row labels for 1 rows. Give one for each, or none"),
        (lambda: grid(column_labels=("a", "b")), "2 column labels for 1 columns"),
        (
            lambda: grid(map_interval=(1, 1)),
            "map interval (1, 1): the lower limit must be below the upper limit",
        ),
        (lambda: TileGridStyle("sheet"), "unknown scale 'sheet': choose from grid, row, column, tile"),
        (lambda: TileGridStyle(percentile=0), "percentile 0: it must be above 0"),
    ],
)
def test_invalid_grids_raise(make, message):
    with pytest.raises(FigureError, match=re.escape(message)):
        make()


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    scale=st.sampled_from(GRID_SCALES),
    percentile=st.sampled_from([100.0, 90.0]),
    data=st.data(),
)
def test_tiles_of_a_group_share_one_scale(rows, columns, scale, percentile, data):
    cell = st.none() | arrays(np.float64, (2, 3), elements=values)
    kinds = st.sampled_from(["signed", "map"])
    tiles = [
        [
            None if (array := data.draw(cell)) is None else GridTile(array, data.draw(kinds))
            for _ in range(columns)
        ]
        for _ in range(rows)
    ]
    if all(tile is None for row in tiles for tile in row):
        return
    made = grid(*tiles, style=TileGridStyle(scale, percentile))
    group = {"grid": lambda r, c: 0, "row": lambda r, c: r, "column": lambda r, c: c}.get(
        scale, lambda r, c: (r, c)
    )
    for kind, found in (("signed", made.limits), ("map", made.intervals)):
        members: dict[object, list[tuple[int, int]]] = {}
        for r, row in enumerate(tiles):
            for c, tile in enumerate(row):
                if tile is not None and tile.kind == kind:
                    members.setdefault(group(r, c), []).append((r, c))
        assert set(found) == {place for places in members.values() for place in places}
        for places in members.values():
            assert len({found[place] for place in places}) == 1
            every = np.concatenate([tiles[r][c].values.ravel() for r, c in places])
            if kind == "map":
                assert found[places[0]] == Interval(every.min(), every.max())
            elif percentile == 100:
                assert found[places[0]].value == np.abs(every).max()
            else:
                beyond = np.abs(every[every != 0]) > found[places[0]].value
                assert not beyond.size or beyond.mean() <= 0.1 + 1e-9
    for place, limit in made.limits.items():
        signed = tiles[place[0]][place[1]].values
        expected = np.clip(signed / limit.value if limit.value else signed, -1, 1)
        np.testing.assert_allclose(made.colours(place)[:, :, 0], 0.5 + expected / 2, atol=1e-12)


def test_colours_match_values_computed_by_hand():
    image, signed = np.array([[0.25, 1.0]]), np.array([[-2.0, 0.0]])
    made = grid([GridTile(image, "image"), GridTile(signed), GridTile(signed + 2, "map"), None])
    np.testing.assert_array_equal(made.colours((0, 0))[0, :, 1], [0.25, 1])
    np.testing.assert_array_equal(made.colours((0, 1))[0, :, 1], [0, 0.5])
    np.testing.assert_allclose(made.colours((0, 2))[0] * 255, [(68, 1, 84), (253, 231, 37)], atol=0.01)
    assert made.colours((0, 3)) is None


def test_heat_colours_are_close_to_viridis():
    ramp = np.linspace(0, 1, 500)[None]
    viridis = matplotlib.colormaps["viridis"](ramp)[..., :3]
    np.testing.assert_allclose(heat_rgb(ramp, Interval(0, 1)), viridis, atol=0.03)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1.7e308, 1.7e308)))
def test_heat_colours_are_finite_and_monotonic(array):
    interval = interval_of([array])
    colours = heat_rgb(array, interval)
    assert np.all(np.isfinite(colours)) and colours.min() >= 0 and colours.max() <= 1
    order = np.argsort(array.ravel())
    assert np.all(np.diff(colours[:, :, 1].ravel()[order]) >= -1e-12)  # green increases with the value


def test_maps_are_clipped_to_the_given_interval():
    made = grid([GridTile(np.array([[-1.0, 0.5, 3.0]]), "map")], map_interval=(0, 1))
    shown = made.colours((0, 0))[0]
    np.testing.assert_array_equal(shown[[0, 2]], heat_rgb(np.array([[0.0, 1.0]]), Interval(0, 1))[0])


def test_largest_in_row_ignores_maps_unless_alone():
    wide, tall, coarse = np.ones((3, 9)), np.ones((8, 2)), np.ones((50, 50))
    made = grid([GridTile(wide), GridTile(tall), GridTile(coarse, "map"), None])
    assert made.largest_in_row(0) == (8, 9)
    assert grid([GridTile(coarse, "map"), GridTile(None, note="no")]).largest_in_row(0) == (50, 50)
    assert grid([GridTile(wide)], [GridTile(None, note="no")]).largest_in_row(1) == (1, 1)


def test_grid_neither_copies_nor_modifies_arrays():
    array = np.ones((4, 4), np.float32)
    array.flags.writeable = False
    made = grid([GridTile(array), GridTile(array, "image"), GridTile(array, "map")])
    assert all(tile.values is array for tile in made.tiles[0])
    for column in range(3):
        made.colours((0, column))[:] = 7


def test_reprs_are_short():
    assert repr(grid()) == "TileGrid('net': 1x1 tiles, scale grid)"
    assert repr(GridTile(GREY, caption="epoch 3", cut=Cut(left=True))) == "GridTile(epoch 3 · signed, 6x4 px)"
    assert repr(GridTile(None, note="not recorded")) == "GridTile(missing)"
