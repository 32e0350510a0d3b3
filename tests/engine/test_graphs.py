"""Random graphs: projections equal autograd, boxes contain the pixels that can change a unit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import passes
from helpers.chains import positive
from helpers.graphs import graphs
from helpers.oracles import Autograd, difference, hull, seen_pixels
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.units import Unit, UnitSeed

EXACT = 1e-9


def _units(draw: Any, activations: torch.Tensor) -> list[Unit]:
    b, c, h, w = activations.shape
    one = st.builds(
        Unit,
        st.integers(0, b - 1), st.integers(0, c - 1), st.integers(0, h - 1), st.integers(0, w - 1),
    )  # fmt: skip
    return draw(st.lists(one, min_size=1, max_size=3))


@pytest.mark.slow
@given(graphs(), st.data())
def test_projections_of_units_and_signals_equal_autograd(case: Any, data: Any) -> None:
    network, images = case
    theirs = Autograd(copy.deepcopy(network), images)  # some layers overwrite their buffers
    ours = passes.run(network, images)
    activations = ours.outputs[""]
    assert difference(activations, theirs.outputs[""].detach()) <= EXACT
    units = _units(data.draw, activations)
    pixels, boxes = ours.units("", units)
    for one, unit, (x0, y0, x1, y1) in zip(pixels, units, boxes, strict=True):
        want = theirs.unit("", unit.image, unit.channel, unit.y, unit.x)  # type: ignore[arg-type]
        assert difference(one, want) <= EXACT, unit
        outside = one.clone()
        outside[:, y0:y1, x0:x1] = 0
        assert not outside.any()
    assert difference(ours.units_at_full_size("", units), pixels) <= EXACT
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(activations.shape, generator=generator, dtype=torch.float64)
    pixels = ours.signals("", signal, range(len(activations)))
    assert difference(pixels, theirs.project("", signal)) <= EXACT


@pytest.mark.slow
@given(graphs(), st.data())
def test_ranges_followed_by_their_ends_equal_those_of_all_positions(case: Any, data: Any) -> None:
    network, images = case
    ours = passes.run(network, images)
    seed = UnitSeed(ours.outputs[""], _units(data.draw, ours.outputs[""]))
    fields = UnitFields(ours.tape, ours.values[""], seed.seen)
    every = fields.visibility.extent
    assert fields.extent.hulls.keys() == every.hulls.keys()
    for value, ends in fields.extent.hulls.items():
        assert all(map(torch.equal, ends, every.hulls[value]))
    assert fields.extent.elementwise == every.elementwise


def _boxes_and_hulls(case: Any, data: Any) -> list[tuple[Unit, Any, Any]]:
    """Return units, their boxes, and the smallest boxes around the pixels that can change them."""
    network, images = case
    ours = passes.run(positive(network), images[:1])
    units = _units(data.draw, ours.outputs[""])
    _, boxes = ours.units("", units)
    places = [(unit.channel, unit.y, unit.x) for unit in units]
    hulls = [hull(seen_pixels(network, "", images.shape[1:], place)) for place in places]  # type: ignore[arg-type]
    return list(zip(units, boxes, hulls, strict=True))


@pytest.mark.slow
@given(graphs(depth=2), st.data())
def test_boxes_are_the_pixels_that_can_change_a_unit(case: Any, data: Any) -> None:
    for unit, (x0, y0, x1, y1), want in _boxes_and_hulls(case, data):
        assert (x0, y0, x1, y1) == want or (want is None and (x1 - x0) * (y1 - y0) == 0), unit
