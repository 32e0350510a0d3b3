"""Maps over images, and legends of colours, in tile grids."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.artists import check_texts, texts

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.spec.heat import DARKEST, Interval, heat_rgb
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, LegendEntry, TileGrid

MAP = np.linspace(0, 1, 20).reshape(4, 5)
IMAGE = np.random.default_rng(0).random((4, 5, 3))


def grid(*tiles, **settings):
    return TileGrid(title=("title",), tiles=(tiles,), style=TileGridStyle("tile"), **settings)


def test_map_over_an_image_is_darker_where_the_image_is_dark():
    found = grid(GridTile(MAP, "map", under=IMAGE)).colours((0, 0))
    wanted = heat_rgb(MAP, Interval(0, 1)) * (DARKEST + (1 - DARKEST) * IMAGE.mean(2, keepdims=True))
    np.testing.assert_allclose(found, wanted)


def test_image_is_grey_where_the_map_is_not_drawn():
    drawn = MAP > 0.5
    found = grid(GridTile(MAP, "map", under=IMAGE, drawn=drawn)).colours((0, 0))
    assert (np.ptp(found[~drawn], axis=1) == 0).all()
    assert (np.ptp(found[drawn], axis=1) > 0).all()
    grey = IMAGE.mean(2)[~drawn]
    assert np.array_equal(np.argsort(found[~drawn][:, 0]), np.argsort(grey))


def test_values_that_are_not_drawn_count_for_the_interval():
    tile = GridTile(MAP, "map", under=IMAGE, drawn=np.zeros((4, 5), bool))
    assert grid(tile).intervals[0, 0] == Interval(0, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "signed", "under": IMAGE}, "only maps can"),
        ({"kind": "map", "under": IMAGE[:2]}, "the image of a map"),
        ({"kind": "map", "under": IMAGE, "drawn": np.ones((2, 5), bool)}, "the mask of a map"),
        ({"kind": "map", "drawn": np.ones((4, 5), bool)}, "needs the image under it"),
        ({"kind": "map", "under": IMAGE + 5}, "colours must be from 0 to 1"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(FigureError, match=message):
        GridTile(MAP, **settings)


@pytest.mark.parametrize("colour", ["red", "#ff00", "#GG0000", ""])
def test_legend_colours_have_one_form(colour):
    with pytest.raises(FigureError, match="must have the form #rrggbb"):
        LegendEntry(colour, "dog")


@pytest.mark.parametrize("medium", ["screen", "paper", "slide"])
def test_legend_is_below_its_tile_and_a_long_name_is_elided(medium):
    long = "a name of a class that is much longer than its tile is wide"
    legend = (LegendEntry("#0072b2", "dog"), LegendEntry("#e69f00", long))
    spec = TileGrid(
        title=("title",),
        tiles=((GridTile(IMAGE, "image", ("caption",), legend=legend), GridTile(MAP, "map")),) * 2,
        style=TileGridStyle("tile", medium=medium),
    )
    figure = draw(spec)
    check_texts(figure)
    shown = [text.get_text() for text in texts(figure, "legend-0-0")]
    assert shown[0] == "dog"
    assert shown[1].endswith("…") or "…" in shown[1]
    assert len(texts(figure, "legend-")) == 4
