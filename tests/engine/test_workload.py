"""How many units are projected together: as many as make their work large, and no more."""

from __future__ import annotations

import pytest
import torch
from helpers import passes
from torch import nn

from deconvviz.engine.projection_pass import LEAST_PART
from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.unit_windows import AllSpans, Windows, spans_of
from deconvviz.engine.units import Unit, UnitSeed
from deconvviz.engine.workload import enough_units


def _enough(network: nn.Sequential, size: int, units: list[Unit]) -> list[float]:
    ours = passes.run(network, torch.randn(1, 3, size, size))
    layer = str(len(network) - 1)
    value = ours.values[layer]
    seed = UnitSeed(ours.outputs[layer], units, ours.tape.layouts[value])
    fields = UnitFields(ours.tape, value, seed.seen)
    spans = spans_of(fields, len(seed))
    windows = Windows(AllSpans(spans), torch.arange(len(seed)), seed.image_indices)
    return enough_units(fields.path, windows, spans, 4)


def test_large_windows_need_fewer_units() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(32, 32))
    whole, border = [Unit(0, 0, 1, 1)], [Unit(0, 0, 0, 0)]
    inner, outer = _enough(network, 96, whole), _enough(network, 96, border)
    assert all(one < other for one, other in zip(inner, outer, strict=True))  # 34 x 34 and 33 x 33 pixels
    assert inner == _enough(network, 96, whole + border)  # the largest window counts
    larger = _enough(nn.Sequential(network[0], nn.MaxPool2d(96, 96)), 96, border)
    assert max(larger) < max(inner) / 7


def test_weights_are_a_cost_of_each_batch() -> None:
    narrow, wide = (_enough(nn.Sequential(nn.Conv2d(3, c, 1)), 1, [Unit(0, 0, 0, 0)])[0] for c in (8, 8000))
    assert wide > 40  # preparing a weight takes longer than to use it for the 40 units
    assert wide < narrow


def _batches(
    network: nn.Sequential, size: int, units: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Return how many units each batch has at the second convolution."""
    ours = passes.run(network, torch.randn(1, 3, size, size))
    rule, sizes = ours.tape.steps[1].rule, []
    assert rule is not None
    project = rule.project
    monkeypatch.setattr(rule, "project", lambda s, *args: sizes.append(len(s)) or project(s, *args))
    ours.units(str(len(network) - 1), units)
    return sizes


def test_units_with_much_work_are_projected_one_by_one_and_others_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    middle = nn.Conv2d(128, 128, 3, padding=1)
    units = [Unit(0, number, 1, 1) for number in range(6)]
    large = nn.Sequential(nn.Conv2d(3, 128, 1), middle, nn.MaxPool2d(80, 80))
    each = 2 * 4 * 2 * 128 * 82**2  # bytes: three of them are within the default memory
    assert LEAST_PART < each < (48 << 20) / 3
    assert _batches(large, 240, units, monkeypatch) == [1] * 6
    small = nn.Sequential(nn.Conv2d(3, 128, 1), middle, nn.MaxPool2d(8, 8))
    assert _batches(small, 24, units * 16, monkeypatch) == [96]  # 20 MB
