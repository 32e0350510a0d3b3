"""Likeness of projected units to other units of their places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import deconvviz as dv
from deconvviz.likeness import PlaceLikeness
from deconvviz.scenes import scene
from deconvviz.trust_measures.drawn_likeness import DrawnLikeness, affordable, likeness_of


@pytest.fixture(scope="module")
def recording() -> dv.Recording:
    return dv.load("minivgg").record([scene(3).image, scene(8).image], ["conv2_1", "conv3_1", "pool3", "fc5"])


def _others(recording: dv.Recording, unit: dv.Unit, count: int) -> list[dv.Unit]:
    """Return the strongest other units at the place of a unit, found with a plain sort."""
    here = recording.activations("conv3_1")[unit.image, :, unit.y, unit.x].numpy()
    order = [channel for channel in np.argsort(-here, kind="stable") if channel != unit.channel]
    return [
        dv.Unit(unit.image, int(channel), unit.y, unit.x) for channel in order[:count] if here[channel] > 0
    ]


def _median(recording: dv.Recording, units: list[dv.Unit]) -> float:
    """Return the median absolute correlation of all pairs of units, inside their field."""
    found = recording.project("conv3_1", units)
    x0, y0, x1, y1 = found.boxes[0]
    flat = found.pixels[:, :, y0:y1, x0:x1].flatten(1).double().numpy()
    table = np.abs(np.corrcoef(flat))
    return float(np.median(table[np.triu_indices(len(units), 1)]))


def test_likeness_is_the_median_over_places_of_the_median_over_pairs(recording: dv.Recording) -> None:
    units = recording.strongest("conv3_1", 5, apart=True)
    assert len({(unit.image, unit.y, unit.x) for unit in units}) == len(units)
    found = likeness_of(recording, recording.project("conv3_1", units), budget=2 * len(units))
    expected = [_median(recording, [unit, *_others(recording, unit, 2)]) for unit in units]
    assert found is not None
    assert found.value == pytest.approx(np.median(expected), abs=1e-6)
    assert (found.places, found.units) == (len(units), 3 * len(units))


def test_first_places_are_a_sample_if_not_all_are_affordable(recording: dv.Recording) -> None:
    units = recording.strongest("conv3_1", 5, apart=True)
    found = likeness_of(recording, recording.project("conv3_1", units), budget=2)
    expected = [_median(recording, [unit, *_others(recording, unit, 1)]) for unit in units[:2]]
    assert found is not None
    assert found.value == pytest.approx(np.median(expected), abs=1e-6)
    assert (found.places, found.units) == (2, 4)


def test_units_of_one_place_are_compared_without_others(recording: dv.Recording) -> None:
    unit = recording.strongest("conv3_1", 1)[0]
    units = [unit, *_others(recording, unit, 3)]
    found = likeness_of(recording, recording.project("conv3_1", units), budget=0)
    assert found is not None
    assert found.value == pytest.approx(_median(recording, units), abs=1e-6)
    assert (found.places, found.units) == (1, 4)


def test_entries_of_a_vector_share_one_place_for_each_image(recording: dv.Recording) -> None:
    found = likeness_of(recording, recording.project("fc5", [dv.Unit(0, n) for n in range(40)]), budget=0)
    assert found is not None and found.places == 1 and found.units >= 2


def test_channels_with_the_same_weights_have_likeness_1() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    module[0].weight.data[:] = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0))
    module[0].bias.data[:] = torch.arange(4)
    net = dv.Network(module, size=32, mean=(0,) * 3, std=(1,) * 3)
    recording = net.record(scene(3, size=32).image, "1")
    found = likeness_of(recording, recording.project("1", recording.strongest("1", 1)))
    assert found is not None and found.value == pytest.approx(1) and found.alike


def test_nothing_is_compared_for_whole_channels_tensors_and_silent_units(recording: dv.Recording) -> None:
    assert likeness_of(recording, recording.project("pool3", [dv.Unit(0, 3), dv.Unit(1, 3)])) is None
    assert likeness_of(recording, recording.project("pool3", recording.activations("pool3"))) is None
    values = recording.activations("conv2_1")
    image, channel, y, x = (int(n) for n in torch.unravel_index(values.argmin(), values.shape))
    assert float(values.min()) < 0
    assert likeness_of(recording, recording.project("conv2_1", dv.Unit(image, channel, y, x))) is None


def test_several_projections_are_collected(recording: dv.Recording) -> None:
    units = recording.strongest("conv3_1", 2, apart=True)
    both = DrawnLikeness()
    for unit in units:
        both.add(recording, recording.project("conv3_1", unit), budget=1)
    found, together = both.result, likeness_of(recording, recording.project("conv3_1", units), budget=2)
    assert found is not None and together is not None
    assert found.value == pytest.approx(together.value, abs=1e-6)
    assert (found.places, found.units) == (together.places, together.units)


def test_number_of_other_units_depends_on_the_field_and_the_number_of_units() -> None:
    net = dv.load("minivgg")
    recording = net.record(scene(3).image, ["conv1_1", "fc5"])
    for count in (1, 9):
        assert affordable(recording.project("conv1_1", recording.strongest("conv1_1", count))) == 9
    for count, expected in ((1, 1), (3, 1), (8, 2), (15, 4)):  # (count + 1) / 4, at least 1
        assert affordable(recording.project("fc5", recording.strongest("fc5", count))) == expected


def test_likeness_is_described_in_eight_words() -> None:
    alike = PlaceLikeness(0.956, 2, 4)
    assert alike.foot == "other units here look alike: median correlation 0.96"
    assert len(alike.foot.split()) == 8
    assert PlaceLikeness(0.8, 2, 4).foot == ""
    assert PlaceLikeness.from_json(alike.to_json()) == alike
    assert PlaceLikeness.from_json(None) is None
