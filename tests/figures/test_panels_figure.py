"""Panels: tile grids and curves in rows of one figure."""

from __future__ import annotations

import numpy as np
import pytest

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.style import CurvesStyle, PanelsStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid


def grid(columns, title="grid", labels=()):
    rng = np.random.default_rng(columns)
    tiles = tuple(GridTile(rng.normal(size=(8, 8))) for _ in range(columns))
    return TileGrid((title,), (tiles,), row_labels=labels, style=TileGridStyle("row", limits=False))


def curves(*, legend=True):
    x = np.arange(4.0)
    lines = (Curve("one", x, x), Curve("two", x, 2 * x, thin=True))
    return Curves(
        ("lines",), (CurvePanel(lines, "x", "y"),), CurvesStyle(legend=legend), footer="about lines"
    )


def artists(figure):
    return {artist.get_gid(): artist for artist in figure.axes[0].get_children() if artist.get_gid()}


def test_parts_are_drawn_with_their_titles_and_unique_names():
    figure = draw(Panels(("whole", "second line"), ((grid(2), curves()), (grid(3, "below"),))))
    named = [artist.get_gid() for artist in figure.axes[0].get_children() if artist.get_gid()]
    assert len(named) == len(set(named))
    found = artists(figure)
    assert found["part-0-title-0"].get_text() == "grid"
    assert found["part-2-title-0"].get_text() == "below"
    assert found["title-0"].get_text() == "whole"
    assert {"part-0-tile-0-1", "part-1-curve-0-1", "part-2-tile-0-2"} <= set(found)
    footer = " ".join(artist.get_text() for name, artist in found.items() if name.startswith("scale"))
    assert "about lines" in footer


def test_parts_of_a_row_are_side_by_side_and_rows_below_each_other():
    found = artists(draw(Panels((), ((grid(1), grid(1)), (grid(1),)))))
    left, right, below = (found[f"part-{number}-tile-0-0"].get_extent() for number in range(3))
    assert left[1] < right[0]
    assert left[2:] == right[2:]
    assert below[3] > left[2]


def test_tile_grids_of_a_row_have_tiles_of_one_size():
    found = artists(draw(Panels((), ((grid(8, labels=("a label",)), grid(9)),))))
    one, other = (found[f"part-{number}-tile-0-0"].get_extent() for number in (0, 1))
    assert one[1] - one[0] == pytest.approx(other[1] - other[0])


def test_shares_divide_the_width():
    parts = (curves(), curves())
    found = artists(draw(Panels((), (parts,), shares=((3, 1),))))
    widths = [np.ptp(found[f"part-{number}-axes-0"].get_xdata()) for number in (0, 1)]
    assert widths[0] > 2.5 * widths[1]


def test_the_width_can_be_chosen():
    spec = Panels((), ((grid(2),),), style=PanelsStyle(width=5))
    assert draw(spec).get_size_inches()[0] == 5
    assert draw(spec, width=6).get_size_inches()[0] == 6


def test_curves_without_a_legend_have_none():
    with_legend, without = (draw(Panels((), ((curves(legend=legend),),))) for legend in (True, False))
    assert "part-0-legend-line-0" in artists(with_legend)
    assert not any("legend" in name for name in artists(without))
    assert without.get_size_inches()[1] < with_legend.get_size_inches()[1]


def test_thin_curves_have_thin_lines():
    found = artists(draw(curves()))
    assert found["curve-0-1"].get_linewidth() < found["curve-0-0"].get_linewidth()


def test_limits_of_all_grids_are_in_the_colour_scale():
    figure = draw(Panels((), ((grid(1), grid(2)),)))
    assert len(figure.colour_scale["limits"]) == 3


def test_mistakes():
    with pytest.raises(FigureError, match="at least one part in each row"):
        Panels((), ((grid(1),), ()))
    with pytest.raises(FigureError, match="one share of the width for each part"):
        Panels((), ((grid(1), grid(1)),), shares=((1,),))
    with pytest.raises(FigureError, match="above 0"):
        Panels((), ((grid(1),),), shares=((0,),))
    with pytest.raises(FigureError, match="do not fit"):
        draw(Panels((), ((grid(40),),)))
