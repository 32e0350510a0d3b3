"""Likeness of maps that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import trust

from deconvviz.trust_measures.likeness import Likeness, around
from deconvviz.trust_measures.place import _strongest


@pytest.fixture(scope="module")
def at():
    return trust.place(trust.convolutions(side=24), "4", of=trust.picture(side=24))


def measured(case):
    likeness = Likeness()
    likeness.see(case)
    return likeness.measure()


def inside(at, box, values):
    """Return a map (3, H, W) with values (3, h, w) in a box and zeros outside."""
    whole = np.zeros((3, 24, 24))
    x0, y0, x1, y1 = box
    whole[:, y0:y1, x0:x1] = values
    return whole


def test_place_is_the_strongest_unit_and_elsewhere_is_half_a_field_away(at):
    values = at.subject.activations()[0]
    assert at.units[0].activation == float(values.max())
    here = values[:, at.units[0].y, at.units[0].x]
    assert [unit.channel for unit in at.units] == np.argsort(-here.numpy())[: len(at.units)].tolist()
    assert all(unit.activation >= 0.05 * at.units[0].activation for unit in at.units)
    apart = max(abs(at.units[0].y - at.elsewhere[0].y), abs(at.units[0].x - at.elsewhere[0].x))
    assert apart * 2 >= at.layer.field[0] / 2  # the stride is 2


def test_faint_and_silent_units_are_left_out():
    values = torch.tensor([0.5, 10.0, 0.4, -1.0, 0.6, 0.0])
    units = _strongest(values, None, 4, None)
    assert [(unit.channel, unit.activation) for unit in units] == [
        (1, 10.0),
        (4, pytest.approx(0.6)),
        (0, 0.5),
    ]
    assert [unit.channel for unit in _strongest(values, None, 2, 2)] == [1, 2]  # the unit of a search is kept
    assert _strongest(torch.tensor([-1.0, 0.0]), None, 2, None) == ()


def test_maps_that_are_equal_up_to_a_factor_have_likeness_1(at):
    one = np.random.default_rng(0).random((3, 24, 24))
    assert measured(trust.case(at, np.stack([one, 3 * one, -one]))).value == pytest.approx(1)


def test_likeness_is_the_median_absolute_correlation_inside_the_field(at):
    maps = np.random.default_rng(1).standard_normal((4, 3, 24, 24))
    x0, y0, x1, y1 = at.box
    flat = maps[:, :, y0:y1, x0:x1].reshape(4, -1)
    pairs = [abs(np.corrcoef(flat[i], flat[j])[0, 1]) for i in range(4) for j in range(i)]
    assert measured(trust.case(at, maps)).value == pytest.approx(np.median(pairs), abs=1e-6)


def test_baseline_compares_units_of_two_places_in_the_box_around_both(at):
    random = np.random.default_rng(2)
    size = (3, at.box[3] - at.box[1], at.box[2] - at.box[0])
    own = [inside(at, at.box, random.random(size)) for _ in range(2)]
    far = at.elsewhere_box
    size = (3, far[3] - far[1], far[2] - far[0])
    other = [inside(at, far, random.random(size)) for _ in range(2)]
    x0, y0, x1, y1 = around(at.box, far)
    assert (x0, x1) == (min(at.box[0], far[0]), max(at.box[2], far[2]))
    cut = [one[:, y0:y1, x0:x1].ravel() for one in (*own, *other)]
    pairs = [abs(np.corrcoef(cut[i], cut[j])[0, 1]) for i in (0, 1) for j in (2, 3)]
    found = measured(trust.case(at, np.stack([*own, *other]), elsewhere=2))
    assert found.baseline == pytest.approx(np.median(pairs), abs=1e-6)


def test_zero_maps_are_left_out(at):
    one = np.random.default_rng(0).random((3, 24, 24))
    assert measured(trust.case(at, np.stack([one, one, 0 * one]))).value == pytest.approx(1)
    assert measured(trust.case(at, np.stack([0 * one, 0 * one]))).value is None
