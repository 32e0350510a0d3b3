"""Identification in a network whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import trust
from torch import nn

from deconvviz.trust_measures.identification import Identification, answers_to, hits, stimuli


@pytest.fixture(scope="module")
def at():
    """Return a place of a network whose channel c is the positive part of colour c, averaged over 3 x 3."""
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.ReLU())
    with torch.no_grad():
        module[0].weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 3, 3) / 9)
    bright = trust.Blocks({"a": (250, 240, 230), "b": (128, 128, 128), "c": (128, 128, 128)})
    found = trust.place(trust.network(module), "1", of=bright.picture())
    assert len(found.units) == 3
    return found


def measured(case):
    measure = Identification()
    measure.see(case)
    return measure.measure()


def colour_maps(at, order):
    """Return one map for each unit, which is positive in one colour."""
    maps = np.zeros((3, 3, trust.SIDE, trust.SIDE))
    for number, unit in enumerate(at.units):
        maps[number, order[unit.channel]] = 1
    return maps


def test_units_answer_to_maps_of_their_own_colour(at):
    found = measured(trust.case(at, colour_maps(at, [0, 1, 2])))
    assert (found.value, found.baseline) == (1, pytest.approx(1 / 3))


def test_units_do_not_answer_to_maps_of_another_colour(at):
    assert measured(trust.case(at, colour_maps(at, [1, 2, 0]))).value == 0


def test_equal_maps_give_chance(at):
    one = np.random.default_rng(0).random((3, trust.SIDE, trust.SIDE))
    assert measured(trust.case(at, np.stack([one] * 3))).value == pytest.approx(1 / 3)


def test_zero_maps_give_chance(at):
    assert measured(trust.case(at, np.zeros((3, 3, trust.SIDE, trust.SIDE)))).value == pytest.approx(1 / 3)


def test_maps_are_shown_with_the_contrast_of_the_picture(at):
    shown = stimuli(trust.case(at, np.random.default_rng(1).random((3, 3, trust.SIDE, trust.SIDE)) * 1e-6))
    x0, y0, x1, y1 = at.box
    contrast = at.inputs[0, :, y0:y1, x0:x1].numpy().std()
    assert [one[:, y0:y1, x0:x1].numpy().std() for one in shown] == pytest.approx([contrast] * 3, rel=1e-4)
    shown[:, :, y0:y1, x0:x1] = 0
    assert not shown.any()


def test_answers_equal_a_forward_pass_of_the_module(at):
    case = trust.case(at, np.random.default_rng(2).standard_normal((3, 3, trust.SIDE, trust.SIDE)))
    with torch.no_grad():
        out = at.network.module(stimuli(case)).clamp_min(0)
    y, x = at.units[0].y, at.units[0].x
    expected = [[float(out[j, unit.channel, y, x]) / unit.activation for unit in at.units] for j in range(3)]
    assert answers_to(case) == pytest.approx(np.array(expected), rel=1e-5)


def test_units_with_the_same_answer_share_a_hit():
    assert hits(np.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0], [1.0, 3.0, 2.0]])).tolist() == [0.5, 1 / 3, 0.0]
