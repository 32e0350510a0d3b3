"""Validation of curves before they are drawn, and computation of ranges and ticks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.tile_grids import random_curves
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deconvviz.errors import FigureError
from deconvviz.figures.curves.ticks import tick_labels, ticks
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference, around_values
from deconvviz.figures.spec.style import CurvesStyle

X = np.arange(4.0)
values = st.floats(-1e300, 1e300, allow_subnormal=False)


def curve(**changes: object) -> Curve:
    return Curve(**{"label": "image 1", "x": X, "y": X**2, **changes})


def panel(*curves: Curve, **changes: object) -> CurvePanel:
    return CurvePanel(
        **{"curves": curves or (curve(),), "x_label": "angle", "y_label": "distance", **changes}
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curve(label=" "), "curve label ' ': it must be text that is not empty"),
        (lambda: curve(y=X[1:]), "image 1: y has 3 values and x has 4"),
        (lambda: curve(band=(X, X[1:])), "image 1: band has 3 values and x has 4"),
        (lambda: curve(band=(X + 1, X)), "image 1: band has a lower limit above its upper limit"),
        (lambda: curve(x=X * np.nan), "image 1: x contains NaN"),
        (lambda: curve(y=X / 0.0), "image 1: y has an absolute value above 1e+300"),
        (
            lambda: curve(y=np.ones((2, 2))),
            "image 1: y must be a one-dimensional array of numbers, not float64 (2, 2)",
        ),
        (lambda: curve(x=[], y=[]), "image 1: x must be a one-dimensional array of numbers"),
        (lambda: curve(y=["a"] * 4), "image 1: y must be a one-dimensional array of numbers"),
        (lambda: curve(markers=1), "image 1: markers 1: it must be True or False"),
        (lambda: CurvePanel((), "x", "y"), "a panel of curves needs at least one curve"),
        (lambda: panel(curve(), curve()), "two curves of a panel have the label 'image 1'"),
        (lambda: panel(curve(y=X * np.nan)), "no curve of a panel has a finite value"),
        (lambda: panel(y_range=(1, 1)), "y range (1, 1): the lower limit must be below the upper limit"),
        (lambda: panel(title=3), "title must be text, not 3"),
        (lambda: Reference(1, ""), "reference label '': it must be text that is not empty"),
        (lambda: Reference(1, "chance", "z"), "unknown axis 'z': choose from x, y"),
        (lambda: Reference(np.nan, "chance"), "chance: value nan must be finite"),
        (lambda: Curves(("net",), ()), "curves need at least one panel"),
        (lambda: CurvesStyle(columns=0), "columns 0: it must be a whole number of at least 1, or None"),
        (lambda: CurvesStyle(shared_y="yes"), "shared_y 'yes': it must be True or False"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_invalid_curves_raise(make, message):
    with pytest.raises(FigureError, match=re.escape(message)):
        make()


@given(st.lists(arrays(np.float64, st.integers(1, 5), elements=values), min_size=1, max_size=3))
def test_range_has_space_around_all_values(several):
    low, high = around_values(several)
    every = np.concatenate(several)
    assert np.isfinite(low) and np.isfinite(high)
    assert low < every.min() and every.max() < high


def test_y_ranges_are_shared_or_separate():
    small, large = panel(curve(y=[0, 1, 0, 1])), panel(curve(y=[0, 10, 0, 10]))
    fixed = panel(y_range=(0, 2))
    shared = Curves(("net",), (small, large, fixed)).y_ranges()
    assert shared == ((-0.5, 10.5), (-0.5, 10.5), (0, 2))
    own = Curves(("net",), (small, large, fixed), CurvesStyle(shared_y=False)).y_ranges()
    assert own == (pytest.approx((-0.05, 1.05)), pytest.approx((-0.5, 10.5)), (0, 2))


def test_range_includes_bands_and_reference_lines():
    made = panel(curve(y=[0, 1, np.nan, 1], band=([-3, 0, np.nan, 0], [1, 2, np.nan, 2])))
    assert Curves(("net",), (made,)).y_ranges()[0] == pytest.approx((-3.25, 2.25))
    made = panel(references=(Reference(100, "chance"), Reference(-6, "start", "x")))
    assert Curves(("net",), (made,)).y_ranges()[0] == (-5, 105)
    assert Curves(("net",), (made,)).x_ranges()[0][0] == pytest.approx(-6.18)


@given(low=values, size=st.floats(1e-6, 1e6), most=st.integers(2, 9))
def test_ticks_are_round_numbers_at_equal_distances_inside_the_range(low, size, most):
    high = low + size * max(abs(low), 1e-250)
    assume(np.isfinite(high) and high > low)
    found = ticks(low, high, most)
    assert (2 if most > 3 else 1) <= len(found) <= most
    slack = 1e-6 * (high - low)
    assert found[0] >= low - slack and found[-1] <= high + slack
    steps = np.diff(found)
    if len(steps):
        np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
        digits = f"{steps[0]:.6e}".split("e")[0]
        assert float(digits) in (1, 2, 2.5, 5)
    labels = tick_labels(found)
    assert len(set(labels)) == len(found)
    read = [float(label.replace("−", "-")) for label in labels]
    np.testing.assert_allclose(read, found, atol=2e-6 * abs(found[-1] - found[0]), rtol=1e-12)


@pytest.mark.parametrize(
    ("ends", "most", "labels"),
    [
        ((0, 1), 6, ("0", "0.2", "0.4", "0.6", "0.8", "1")),
        ((-0.05, 1.05), 5, ("0", "0.25", "0.5", "0.75", "1")),
        ((0, 180), 8, ("0", "25", "50", "75", "100", "125", "150", "175")),
        ((-3, 3), 4, ("−2", "0", "2")),
        ((0, 2e5), 3, ("0", "100000", "200000")),
        ((1000000.1, 1000000.5), 3, ("1000000.2", "1000000.4")),
        ((0, 3e-7), 4, ("0", "1e-07", "2e-07", "3e-07")),
    ],
)
def test_ticks_match_values_computed_by_hand(ends, most, labels):
    assert tick_labels(ticks(*ends, most)) == labels


def test_legend_labels_are_not_repeated():
    made = random_curves(3, 4)
    assert made.curve_labels == ("image 0", "image 1", "image 2", "image 3")
    chance = Reference(0, "chance")
    made = Curves(
        ("net",), (panel(references=(chance,)), panel(references=(chance, Reference(1, "start", "x"))))
    )
    assert made.reference_labels == ("chance", "start")


def test_labels_include_units():
    assert panel(x_units="degrees").labels() == ("angle (degrees)", "distance")


def test_reprs_are_short():
    assert repr(curve()) == "Curve('image 1': 4 points)"
    assert repr(panel()) == "CurvePanel('distance': 1 curves)"
    assert repr(random_curves(2, 3)) == "Curves('minivgg': 2 panels)"
