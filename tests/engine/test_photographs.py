"""Trained SqueezeNet on twenty photographs: projections in windows, at full size and by autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import passes
from helpers.oracles import Autograd, difference

import deconvviz as dv

pytestmark = pytest.mark.usefixtures("spare_threads")
DEPTHS = ["features.2", "features.7", "features.12", ""]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 2, 3))])
def test_projections_of_photographs_equal_full_size_and_autograd(real_data: Path, batch: int) -> None:
    """Project the peak of each image in three layers and in the class scores, and one unit at the border."""
    some = sorted((real_data / "imagenet-sample").glob("*.JPEG"))[15 * batch : 300 : 60]
    assert len(some) == 5
    net = dv.load("squeezenet1_0", weights=real_data / "squeezenet1_0.pth")
    images = net.record(some, "features.0").inputs.double()
    network = net.module.double().eval()
    ours, theirs = passes.run(network, images), Autograd(network, images, DEPTHS)
    for layer in DEPTHS:
        activations = ours.outputs[layer]
        every = passes.some_units(activations, torch.Generator().manual_seed(batch))
        units = [every[batch], *every[-len(some) :]]
        pixels, boxes = ours.units(layer, units)
        full = ours.units_at_full_size(layer, units)
        assert difference(pixels, full) <= 1e-10
        for numbers in passes.groups_by_image(units, len(some)):
            signal = torch.zeros_like(activations)
            for unit in (units[k] for k in numbers):
                place = (unit.image, unit.channel) + (() if unit.y is None else (unit.y, unit.x))
                signal[place] = activations[place]
            want = theirs.project(layer, signal)
            for k in numbers:
                assert difference(pixels[k], want[units[k].image]) <= 1e-10, (layer, units[k])
        peaks = pixels[-len(some) :]
        assert bool(peaks.flatten(1).any(1).all()) or layer == ""  # a class may have no positive path
        for one, (x0, y0, x1, y1) in zip(pixels, boxes, strict=True):
            outside = one.clone()
            outside[:, y0:y1, x0:x1] = 0
            assert not outside.any()
