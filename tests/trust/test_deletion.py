"""Deletion and insertion curves against loops in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import trust
from scipy.ndimage import gaussian_filter
from torch import nn

from deconvviz.trust_measures.deletion import PERCENT, UNITS, Deletion, areas, pixel_order


@pytest.fixture(scope="module")
def at():
    """Return a place whose units are linear in the picture, with fields of the whole picture."""
    torch.manual_seed(4)
    return trust.place(trust.network(nn.Sequential(nn.Conv2d(3, 8, trust.SIDE))), "0", k=4)


def test_curves_equal_those_of_a_linear_unit(at):
    maps = np.random.default_rng(0).standard_normal((len(at.units), 3, trust.SIDE, trust.SIDE))
    deletion = Deletion()
    deletion.see(trust.case(at, maps))
    sharp = at.inputs[0].numpy().astype(float)
    soft = gaussian_filter(sharp, (0, 1, 1), mode="nearest")  # 12 / 16 is less than one pixel
    conv = at.network.module[0]
    bias = conv.bias.detach().numpy()

    def activation(pixels, channel):
        weight = conv.weight[channel].detach().numpy()
        return max(float((weight * pixels).sum() + bias[channel]), 0)

    falls, rises = [], []
    for unit, own in list(zip(at.units, maps, strict=True))[:UNITS]:
        energy = (own**2).sum(0)
        whole = activation(sharp, unit.channel)
        left, back = [1.0], [activation(soft, unit.channel) / whole]
        for percent in PERCENT:
            count = math.ceil(energy.size * percent / 100)
            most = energy >= np.sort(energy.ravel())[-count]
            left.append(activation(np.where(most, soft, sharp), unit.channel) / whole)
            back.append(activation(np.where(most, sharp, soft), unit.channel) / whole)
        falls.append(left)
        rises.append(back)
    assert deletion.curve("deletion")["value"] == pytest.approx(np.mean(falls, axis=0), abs=1e-4)
    assert deletion.curve("insertion")["value"] == pytest.approx(np.mean(rises, axis=0), abs=1e-4)
    expected = np.trapezoid(np.array(falls), [0, *PERCENT], axis=1).mean() / PERCENT[-1]
    assert deletion.measure("deletion").value == pytest.approx(expected, abs=1e-4)
    assert deletion.curve("deletion")["percent"] == [0, *PERCENT]


def test_true_contributions_beat_random_pixels_and_their_opposite_does_not(at):
    """In a linear unit, weight times (picture - blurred picture) is what each pixel adds."""
    weight = at.network.module[0].weight.detach().numpy()
    difference = (at.inputs - at.blurred)[0].numpy()
    true = np.stack([weight[unit.channel] * difference for unit in at.units])
    best, worst = Deletion(), Deletion()
    best.see(trust.case(at, true, signed=True))
    worst.see(trust.case(at, -true, signed=True))
    fall, rise = best.measure("deletion"), best.measure("insertion")
    assert fall.value < fall.baseline
    assert rise.value > rise.baseline
    assert worst.measure("deletion").value > fall.baseline
    assert worst.measure("insertion").value < rise.baseline


def test_random_pixels_are_the_same_for_all_methods(at):
    maps = np.random.default_rng(5).standard_normal((2, len(at.units), 3, trust.SIDE, trust.SIDE))
    found = []
    for own in maps:
        deletion = Deletion()
        deletion.see(trust.case(at, own))
        found.append(deletion.measure("deletion"))
    assert found[0].baseline == found[1].baseline
    assert found[0].value != found[1].value


def test_pixels_are_ordered_by_importance_and_ties_at_random():
    importance = np.array([[0.0, 5.0, 0.0], [7.0, 0.0, 0.0]])
    orders = [pixel_order(importance, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert {tuple(order[:2]) for order in orders} == {(3, 1)}
    assert len({tuple(order) for order in orders}) > 10


def test_area_of_a_constant_curve_is_its_height():
    assert areas(np.full((2, 1 + len(PERCENT)), 0.3)) == pytest.approx([0.3, 0.3])
