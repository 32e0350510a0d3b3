"""Chains of layers with random geometry: projections equal backpropagation, boxes equal what is measured.

The measured box of a unit is the smallest around all pixels that can change it.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from helpers import passes
from helpers.chains import (
    SLIDING,
    adaptive_pools,
    average_pools,
    chains,
    convolutions,
    max_pools,
    positive,
)
from helpers.oracles import Autograd, difference, seen_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvviz.engine.receptive_fields import fields
from deconvviz.engine.units import Unit

pytestmark = pytest.mark.slow

EXACT = 1e-11


def _units(draw: Any, activations: torch.Tensor, most: int = 4) -> list[Unit]:
    b, c, h, w = activations.shape
    one = st.builds(
        Unit,
        st.integers(0, b - 1), st.integers(0, c - 1), st.integers(0, h - 1), st.integers(0, w - 1),
    )  # fmt: skip
    return draw(st.lists(one, min_size=1, max_size=most))


def _last(network: nn.Sequential) -> str:
    return str(len(network) - 1)


def _assert_projections_equal_autograd(network: nn.Sequential, images: torch.Tensor, data: Any) -> None:
    ours, theirs = passes.run(network, images), Autograd(network, images)
    layer = _last(network)
    activations = ours.outputs[layer]
    assert torch.equal(activations, theirs.outputs[layer].detach())
    units = _units(data.draw, activations)
    pixels, _ = ours.units(layer, units)
    for k, unit in enumerate(units):
        want = theirs.unit(layer, unit.image, unit.channel, unit.y, unit.x)  # type: ignore[arg-type]
        assert difference(pixels[k], want) <= EXACT, unit
    signal = torch.randn_like(activations) * (torch.rand_like(activations) > 0.7)
    pixels = ours.signals(layer, signal, range(len(activations)))
    assert difference(pixels, theirs.project(layer, signal)) <= EXACT


@given(chains(convolutions(), longest=1), st.data())
def test_projections_of_a_convolution_equal_autograd(case: Any, data: Any) -> None:
    _assert_projections_equal_autograd(*case, data)


@pytest.mark.slow
@given(chains(max_pools(), longest=1, sizes=(1, 9)), st.data())
@settings(max_examples=4 * settings.default.max_examples)  # more examples, because switches are packed
def test_projections_of_a_max_pool_equal_autograd(case: Any, data: Any) -> None:
    _assert_projections_equal_autograd(*case, data)


@given(chains(average_pools(), longest=1, sizes=(1, 9)), st.data())
def test_projections_of_an_average_pool_equal_autograd(case: Any, data: Any) -> None:
    _assert_projections_equal_autograd(*case, data)


@given(chains(adaptive_pools(), longest=1, sizes=(1, 9)), st.data())
def test_projections_of_an_adaptive_pool_equal_autograd(case: Any, data: Any) -> None:
    _assert_projections_equal_autograd(*case, data)


@given(chains(), st.data())
def test_projections_of_chains_equal_autograd(case: Any, data: Any) -> None:
    _assert_projections_equal_autograd(*case, data)


@given(chains(), st.data())
def test_boxes_are_the_pixels_that_can_change_a_unit(case: Any, data: Any) -> None:
    network, images = case
    ours = passes.run(positive(network), images[:1])
    units = _units(data.draw, ours.outputs[_last(network)])
    _, boxes = ours.units(_last(network), units)
    for unit, (x0, y0, x1, y1) in zip(units, boxes, strict=True):
        place = (unit.channel, unit.y, unit.x)
        seen = seen_pixels(network, _last(network), images.shape[1:], place)  # type: ignore[arg-type]
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if len(rows):
            assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        else:
            assert (x1 - x0) * (y1 - y0) == 0  # the unit depends only on padding


@given(chains(), st.data())
def test_projection_is_zero_outside_its_box(case: Any, data: Any) -> None:
    network, images = case
    ours = passes.run(network, images)
    pixels, boxes = ours.units(_last(network), _units(data.draw, ours.outputs[_last(network)]))
    for one, (x0, y0, x1, y1) in zip(pixels, boxes, strict=True):
        outside = one.clone()
        outside[:, y0:y1, x0:x1] = 0
        assert not outside.any()


@given(chains(SLIDING, longest=4, sizes=(90, 90)))
@settings(max_examples=30)
def test_receptive_field_equals_the_pixels_that_change_a_unit_in_the_middle(case: Any) -> None:
    network, images = case
    ours = passes.run(positive(network), images[:1])
    layer = _last(network)
    field = fields(ours.tape)[ours.values[layer]]
    assert field is not None
    h, w = ours.outputs[layer].shape[2:]
    y, x = h // 2, w // 2
    seen = seen_pixels(network, layer, images.shape[1:], (0, y, x))
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    for there, size, first, stride, place in zip(
        (rows, columns), field.size, field.first, field.stride, (y, x), strict=True
    ):
        assert (there[0], there[-1] + 1) == (first + place * stride, first + place * stride + size)
        assert there[0] > 0 and there[-1] < 89  # the field does not reach the border


@given(chains(), st.data())
def test_windows_and_batches_do_not_change_the_projection(case: Any, data: Any) -> None:
    network, images = case
    ours = passes.run(network, images)
    layer = _last(network)
    units = _units(data.draw, ours.outputs[layer], most=9)
    together, _ = ours.units(layer, units)
    one_by_one, _ = ours.units(layer, units, memory=1)
    assert difference(one_by_one, together) <= EXACT
    for step in ours.tape.steps:
        assert step.rule is not None
        step.rule.supports_windows = False
    whole, _ = ours.units(layer, units)
    assert difference(whole, together) <= EXACT


def test_signals_are_projected_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))
    ours = passes.run(network, torch.randn(1, 3, 40, 40))
    widths: list[int] = []
    for step in ours.tape.steps:
        project = step.rule.project  # type: ignore[union-attr]
        monkeypatch.setattr(
            step.rule,
            "project",
            lambda s, at, into, project=project: widths.append(s.shape[3]) or project(s, at, into),
        )
    ours.units("3", [Unit(0, 1, 20, 20), Unit(0, 2, 0, 0)])
    assert widths == [1, 3, 5, 7]


def test_parts_of_parts_of_a_batch_do_not_become_ever_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is divided at several steps. What it holds itself may take half of the memory at most."""
    channels = [3, 32, 16, 8, 4, 2]
    network = nn.Sequential(*(nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(channels))).double()
    ours = passes.run(network, torch.randn(1, 3, 40, 40, dtype=torch.float64))
    step = ours.tape.steps[0]
    project, sizes = step.rule.project, []  # type: ignore[union-attr]
    monkeypatch.setattr(step.rule, "project", lambda s, *args: sizes.append(len(s)) or project(s, *args))
    units = [Unit(0, 0, 10 + y, 10 + x) for y in range(20) for x in range(20)]
    each = 2 * 8 * (32 * 9 * 9 + 3 * 11 * 11)  # bytes of a unit at the first convolution
    ours.units("4", units, memory=20 * each)
    assert sum(sizes) == 400
    assert median(sizes) >= 5  # half of the memory is enough for ten, which are divided evenly


def test_memory_budget_limits_the_units_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).double()
    ours = passes.run(network, torch.randn(1, 3, 30, 30, dtype=torch.float64))
    batches: dict[int, list[int]] = {0: [], 2: []}
    for number, sizes in batches.items():
        step = ours.tape.steps[number]
        project = step.rule.project  # type: ignore[union-attr]
        monkeypatch.setattr(
            step.rule,
            "project",
            lambda s, at, into, project=project, sizes=sizes: sizes.append(len(s)) or project(s, at, into),
        )
    units = [Unit(0, 0, 10, x) for x in range(10, 20)]
    ours.units("2", units)
    assert batches == {0: [10], 2: [10]}
    # Numbers of 8 bytes for each unit: 8 at the layer, 8 x 3 x 3 below, and 3 x 5 x 5 in the image; working
    # space doubles them. So 5 units fit into 7056 bytes at the last convolution. Their signals then hold
    # 5 x 72 numbers, and the rest is enough for one unit at the first convolution.
    for sizes in batches.values():
        sizes.clear()
    ours.units("2", units, memory=3 * 2 * 8 * (72 + 75))
    assert batches == {0: [1] * 10, 2: [5, 5]}
