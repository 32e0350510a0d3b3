"""Drawing of curves, checked through the matplotlib artists rather than pixels."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from helpers.artists import check_texts, gids, text_of, texts
from helpers.tile_grids import LONG, random_curves
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.lines import Line2D

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.curves.layout import arrange_curves
from deconvviz.figures.page.save import save
from deconvviz.figures.page.sizes import COLUMN, MARGIN, PAGE
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference
from deconvviz.figures.spec.style import CurvesStyle

X = np.array([0.0, 30, 60, 90])


def lines(figure, start: str) -> dict[str, Line2D]:
    found = figure.findobj(
        lambda artist: isinstance(artist, Line2D) and (artist.get_gid() or "").startswith(start)
    )
    return {line.get_gid(): line for line in found}


def one(*curves: Curve, **panel: object) -> Curves:
    return Curves(("net",), (CurvePanel(curves, "angle", "distance", **panel),))


@pytest.mark.slow
@pytest.mark.parametrize("panels", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 4, 12])
@pytest.mark.parametrize("long", [False, True])
def test_texts_do_not_overlap(panels, count, long):
    for shared in (True, False):
        figure = draw(random_curves(panels, count, long=long, shared_y=shared))
        check_texts(figure)
        assert COLUMN <= figure.get_figwidth() <= PAGE + 1e-9
        assert figure.get_figheight() <= 9.8


@pytest.mark.parametrize("width", [2, 3.45, 14])
def test_texts_do_not_overlap_at_other_widths(width):
    figure = draw(random_curves(1, 3, long=True), width=width)
    assert figure.get_figwidth() == pytest.approx(width)
    check_texts(figure)


@pytest.mark.parametrize("dpi", [50, 300])
def test_texts_do_not_overlap_at_other_resolutions(dpi):
    check_texts(draw(random_curves(4, 5, long=True)), dpi)


@settings(max_examples=40, deadline=None)
@given(
    panels=st.integers(1, 8),
    count=st.integers(1, 12),
    columns=st.none() | st.integers(1, 8),
    width=st.none() | st.floats(2, 20),
    size=st.floats(1e-9, 1e9),
)
def test_panels_are_separate_and_inside_the_page(panels, count, columns, width, size):
    curve = [Curve(f"line {n}", X, X * size * (n - 3)) for n in range(count)]
    curves = Curves(("net",), [CurvePanel(curve, "x", "y", "title")] * panels, CurvesStyle(columns=columns))
    try:
        body = arrange_curves(curves, width, around=0.8)
    except FigureError:
        assert (width or PAGE) < 1.6 * (columns or 4)
        return
    assert body.width <= body.page - 2 * MARGIN + 1e-9
    for placed in body.panels:
        assert 0 <= placed.y_label_x < placed.plot.x
        assert placed.plot.right <= body.width + 1e-9 and placed.plot.bottom < body.height
        assert placed.plot.w >= 0.55 and placed.plot.h >= 0.5 - 1e-9
        for line in curve:
            points = placed.points(line.x, line.y)
            assert np.all(points[:, 0] >= placed.plot.x) and np.all(points[:, 0] <= placed.plot.right)
            assert np.all(points[:, 1] >= placed.plot.y) and np.all(points[:, 1] <= placed.plot.bottom)
    for a, b in itertools.combinations([placed.plot for placed in body.panels], 2):
        apart = max(a.x - b.right, b.x - a.right, a.y - b.bottom, b.y - a.bottom)
        assert apart > 0.16
    for entry in body.legend:
        assert entry.y > max(placed.plot.bottom for placed in body.panels)


def test_curve_passes_through_its_values():
    figure = draw(one(Curve("image", X, [0, 4, 2, 4])))
    (grid,) = ({gid: line.get_xydata() for gid, line in lines(figure, "grid").items()},)
    (points,) = (line.get_xydata() for line in lines(figure, "curve").values())
    x = {text: grid[f"grid-x-tick-0-{text}"][0, 0] for text in ("0", "40", "80")}
    y = {text: grid[f"grid-y-tick-0-{text}"][0, 1] for text in ("0", "2", "4")}
    per_degree = (x["80"] - x["0"]) / 80
    np.testing.assert_allclose(points[:, 0], x["0"] + X * per_degree)
    np.testing.assert_allclose(points[:, 1], [y["0"], y["4"], y["2"], y["4"]])
    assert y["4"] < y["2"] < y["0"]  # y increases downwards on the page
    for text, place in x.items():
        (label,) = [t for t in texts(figure, "x-tick") if t.get_text() == text]
        assert label.get_position()[0] == pytest.approx(place)


def test_panels_share_one_y_axis_only_if_requested():
    ticks = [
        [
            [t.get_text() for t in texts(draw(random_curves(3, 2, shared_y=shared)), f"y-tick-{n}")]
            for n in range(3)
        ]
        for shared in (True, False)
    ]
    assert ticks[0][0] == ticks[0][1] == ticks[0][2]
    assert ticks[1][0] != ticks[1][2]


def test_curves_with_the_same_label_have_the_same_colour():
    names = ["a", "b", "c"]
    panels = [CurvePanel([Curve(n, X, X) for n in names[start:]], "x", "y") for start in (0, 1)]
    figure = draw(Curves(("net",), panels))
    shown = {gid: line.get_color() for gid, line in lines(figure, "").items()}
    assert shown["curve-0-1"] == shown["curve-1-0"] == shown["legend-line-1"]
    assert len({shown[f"legend-line-{n}"] for n in range(3)}) == 3
    assert [text_of(figure, f"legend-{n}") for n in range(3)] == names


def test_twelve_curves_have_different_colours_or_dashes():
    figure = draw(random_curves(1, 12))
    looks = {(line.get_color(), str(line._dash_pattern)) for line in lines(figure, "curve").values()}
    assert len(looks) == 12 and len(lines(figure, "legend-line")) == 12


def test_nan_leaves_a_gap_and_an_isolated_point_has_a_marker():
    figure = draw(one(Curve("gap", X, [0, np.nan, 1, 1], markers=False), Curve("whole", X, X, markers=False)))
    shown = lines(figure, "curve")
    assert np.isnan(shown["curve-0-0"].get_ydata()[1])
    assert shown["curve-0-0"].get_marker() == "o" and shown["curve-0-1"].get_marker() == "None"
    assert lines(figure, "legend-line-1")["legend-line-1"].get_marker() == "None"


def test_bands_surround_their_curve():
    low, high = X - 5, X + 10
    low[1] = high[1] = np.nan
    figure = draw(one(Curve("mean", X, X, band=(low, high))))
    assert gids(figure, "band") == ["band-0-0-0", "band-0-0-1"]
    (band,) = figure.findobj(lambda artist: artist.get_gid() == "band-0-0-1")
    points = lines(figure, "curve")["curve-0-0"].get_xydata()
    corners = band.get_xy()
    assert corners[:4, 0] == pytest.approx([points[2, 0], points[3, 0], points[3, 0], points[2, 0]])
    assert corners[0, 1] > points[2, 1] > corners[3, 1]


def test_reference_lines_cross_the_panel_and_have_legend_entries():
    references = (Reference(0.5, "chance"), Reference(45, "eighth turn", "x"))
    figure = draw(one(Curve("image", X, X / 90), references=references))
    shown = lines(figure, "reference")
    across, down = shown["reference-0-0"].get_xydata(), shown["reference-0-1"].get_xydata()
    assert across[0, 1] == across[1, 1] and down[0, 0] == down[1, 0]
    assert across[0, 0] < down[0, 0] < across[1, 0]
    assert [text_of(figure, f"legend-{n}") for n in range(3)] == ["image", "chance", "eighth turn"]


def test_values_outside_the_given_range_are_clipped():
    figure = draw(one(Curve("image", X, [0, 5, -5, 1]), y_range=(0, 1)))
    (line,) = lines(figure, "curve").values()
    top, bottom = (lines(figure, "axes")["axes-0"].get_ydata()[n] for n in (0, 1))
    box = line.get_clip_box().transformed(figure.axes[0].transData.inverted())
    assert min(box.y0, box.y1) == pytest.approx(top - 0.03, abs=1e-6)
    assert max(box.y0, box.y1) == pytest.approx(bottom + 0.03, abs=1e-6)


def test_long_labels_are_shortened():
    figure = draw(random_curves(8, 2, long=True))
    assert "…" in text_of(figure, "y-label-0") and text_of(figure, "y-label-0").endswith("ormalised)")
    assert text_of(figure, "panel-3-").startswith(LONG.split()[0])


def test_too_many_columns_for_the_width_raise():
    with pytest.raises(
        FigureError, match=r"8 panels side by side do not fit: .* fewer columns or a wider figure"
    ):
        draw(random_curves(8, 1, columns=8), width=4)


def test_unusual_characters_in_names_are_drawn(tmp_path):
    name = "猫 $x_1^2$ \\alpha %d {} <&> \ud800\x00\x1b \u202e"
    panel = CurvePanel([Curve(name, X, X)], name, name, name, name, name, references=(Reference(1, name),))
    figure = draw(Curves((name,), (panel,), footer=name))
    ElementTree.fromstring(save(figure, tmp_path / "curves.svg").read_bytes())


def test_same_spec_gives_the_same_file(tmp_path):
    first = save(draw(random_curves(2, 4)), tmp_path / "first.svg").read_bytes()
    assert save(draw(random_curves(2, 4)), tmp_path / "again.svg").read_bytes() == first
