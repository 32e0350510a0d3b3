"""Figures of measures: bars, intervals, baselines and curves."""

from __future__ import annotations

import numpy as np
import pytest

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.page.style import COLOURS
from deconvviz.figures.spec.curves import Curve, CurvePanel
from deconvviz.figures.spec.measures import Bar, BarPanel, MeasuresFigure

METHODS = ("deconvnet", "guided backprop")


def figure(*bars: BarPanel, **settings: object) -> MeasuresFigure:
    panels = bars or (BarPanel("Likeness", "of maps", (Bar(0.9, 0.8, 0.95, 0.1), Bar(0.4)), "lower"),)
    return MeasuresFigure(**{"title": ("net", "weights"), "methods": METHODS, "bars": panels, **settings})


def lines(drawn: object) -> dict[str, np.ndarray]:
    """Return the points of all lines by gid."""
    (axes,) = drawn.axes
    return {line.get_gid(): np.column_stack(line.get_data()) for line in axes.lines}


def texts(drawn: object) -> dict[str, str]:
    (axes,) = drawn.axes
    return {text.get_gid(): text.get_text() for text in axes.texts}


def test_bars_intervals_and_baselines_are_drawn_on_one_scale() -> None:
    found = lines(draw(figure()))
    zero = found["zero-0"][0, 0]
    per_unit = (found["bar-0-0"][1, 0] - zero) / 0.9
    assert found["bar-0-0"][0, 0] == pytest.approx(zero)
    assert found["bar-0-1"][1, 0] - zero == pytest.approx(0.4 * per_unit)
    assert found["baseline-0-0"][0, 0] - zero == pytest.approx(0.1 * per_unit)
    ends = found["interval-0-0"][:, 0] - zero
    assert (ends.min(), ends.max()) == (pytest.approx(0.8 * per_unit), pytest.approx(0.95 * per_unit))
    assert "interval-0-1" not in found
    assert "baseline-0-1" not in found


def test_texts_name_methods_numbers_and_direction() -> None:
    found = texts(draw(figure()))
    assert (found["method-0"], found["method-1"]) == METHODS
    assert (found["number-0-0"], found["number-0-1"]) == ("0.90", "0.40")
    assert found["bars-0-0"] == "Likeness"
    assert found["note-0-0"] == "of maps (lower is better)"
    assert any("95 % interval" in text for text in found.values())


def test_negative_values_extend_the_axis() -> None:
    found = lines(draw(figure(BarPanel("Apart", "", (Bar(-0.5, -0.8, -0.2, 0.0), None)))))
    assert found["bar-0-0"][1, 0] < found["zero-0"][0, 0]
    assert BarPanel("x", "", (Bar(-0.5, -0.8, -0.2),)).range == (-0.8, 1.0)


def test_method_without_a_number_has_a_dash() -> None:
    drawn = draw(figure(BarPanel("Apart", "", (None, Bar(0.5)))))
    assert texts(drawn)["number-0-0"] == "–"
    assert "bar-0-0" not in lines(drawn)


def test_bars_and_curves_of_a_method_have_the_same_colour() -> None:
    x = np.arange(3.0)
    panel = CurvePanel((Curve("guided backprop", x, x), Curve("random", x, 1 - x)), "q", "left")
    drawn = draw(figure(curves=(panel,)))
    (axes,) = drawn.axes
    colours = {line.get_gid(): line.get_color() for line in axes.lines}
    assert colours["curve-0-0"] == colours["bar-0-1"] == COLOURS[0]
    assert colours["bar-0-0"] == COLOURS[2]  # after the two curves


def test_sentences_are_never_shortened() -> None:
    sentence = " ".join(f"word{number}" for number in range(90)) + "."
    found = texts(draw(figure(sentences=(sentence, "Second."))))
    shown = [text for gid, text in found.items() if gid and gid.startswith("sentence-0-")]
    assert " ".join(shown) == sentence


def test_many_panels_do_not_overlap() -> None:
    panels = tuple(BarPanel(f"Panel {n}", "note " * 20, (Bar(0.5), Bar(0.2))) for n in range(8))
    found = lines(draw(figure(*panels)))
    rows = [found[f"bar-{n}-0"] for n in range(8)]
    assert len({row[0, 0].round(3) for row in rows}) == 3  # columns
    assert len({row[0, 1].round(3) for row in rows}) == 3  # rows
    for n in range(3, 8):
        assert found[f"grid-{n}-0"][:, 1].min() > found[f"grid-{n - 3}-0"][:, 1].max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bar(float("nan")), "must be finite"),
        (lambda: Bar(0.5, 0.6, 0.4), "lower limit above its upper limit"),
        (lambda: Bar(0.5, 0.4), "both ends"),
        (lambda: BarPanel("Empty", "", (None, None)), "at least one bar"),
        (lambda: BarPanel("x", "", (Bar(1),), "larger"), "unknown better"),
        (lambda: figure(BarPanel("x", "", (Bar(1),))), "1 bars for 2 methods"),
        (lambda: draw(figure(*figure().bars * 3), width=1.6), "do not fit"),
    ],
)
def test_mistakes_are_named(make, message) -> None:
    with pytest.raises(FigureError, match=message):
        make()
