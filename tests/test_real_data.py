"""Trained SqueezeNet on photographs: two channels with a visible meaning.

In `features.9`, channel 50 responds to round eyes and coiled curves, and channel 77 to faces. The tests
compare projections with the oracle, and the ranking of images with that of a bare forward pass.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.oracles import Autograd, difference
from torch import Tensor

import deconvviz as dv

LAYER = "features.9"
EYES, FACES = 50, 77
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spare_threads")]


@pytest.fixture(scope="module")
def net(real_data: Path) -> dv.Network:
    return dv.load("squeezenet1_0", weights=real_data / "squeezenet1_0.pth")


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> list[Path]:
    found = sorted((real_data / "imagenet-sample").glob("*.JPEG"))
    assert len(found) == 300
    return found


@pytest.fixture(scope="module")
def rec(net: dv.Network, photographs: list[Path]) -> dv.Recording:
    return net.record(photographs[::30], LAYER)


@pytest.mark.parametrize("channel", [EYES, FACES])
def test_projections_of_ten_photographs_equal_the_oracle(
    net: dv.Network, rec: dv.Recording, channel: int
) -> None:
    activations = rec.activations(LAYER)
    units = []
    for image in range(len(rec)):
        peak = int(activations[image, channel].argmax())
        units.append(dv.Unit(image, channel, *divmod(peak, activations.shape[3])))
    proj = rec.project(LAYER, units)
    signal = torch.zeros_like(activations)
    for unit in proj.units:
        signal[unit.image, channel, unit.y, unit.x] = unit.activation
    want = Autograd(net.module, rec.inputs).project(LAYER, signal)
    active = [unit for unit in proj.units if unit.activation > 0]
    assert len(active) >= 8
    for one, unit in zip(proj.pixels, proj.units, strict=True):
        assert difference(one, want[unit.image]) <= 1e-4
        assert bool(one.any()) == (unit.activation > 0)
    for one, (x0, y0, x1, y1) in zip(proj.pixels, proj.boxes, strict=True):
        outside = one.clone()
        outside[:, y0:y1, x0:x1] = 0
        assert not outside.any()  # all energy is inside the receptive field
    full = rec.project(LAYER, signal, image_indices=range(len(rec)))
    assert difference(full.pixels, proj.pixels) <= 1e-4


def test_projections_in_float64_equal_the_oracle(real_data: Path, photographs: list[Path]) -> None:
    net = dv.load("squeezenet1_0", weights=real_data / "squeezenet1_0.pth")
    net.module.double()
    rec = net.record(photographs[:2], LAYER)
    units = [*rec.strongest(LAYER, 3, channel=EYES), *rec.strongest(LAYER, 3, channel=FACES)]
    oracle = Autograd(net.module, rec.inputs)
    for one, unit in zip(rec.project(LAYER, units).pixels, units, strict=True):
        assert unit.y is not None and unit.x is not None
        assert difference(one, oracle.unit(LAYER, unit.image, unit.channel, unit.y, unit.x)) <= 1e-10


@torch.no_grad()
def _peaks(net: dv.Network, photographs: list[Path], batch: int) -> Tensor:
    """Return the peaks of both channels (images, 2), recorded in batches of `batch` images."""
    found = []
    for first in range(0, len(photographs), batch):
        activations = net.record(photographs[first : first + batch], LAYER).activations(LAYER)
        found.append(activations[:, [EYES, FACES]].amax((2, 3)))
    return torch.cat(found)


def test_strongest_photographs_do_not_depend_on_batches_and_equal_a_bare_forward_pass(
    net: dv.Network, photographs: list[Path]
) -> None:
    some = photographs[:72]
    together, again = _peaks(net, some, 24), _peaks(net, some, 10)
    bare = []
    module = net.module.eval()
    truncated = module.features[:10]  # type: ignore[index, operator]
    with torch.no_grad():
        for path in some:
            inputs = net.record(path, "features.0").inputs
            bare.append(truncated(inputs)[:, [EYES, FACES]].amax((2, 3)))
    for other in (again, torch.cat(bare)):
        torch.testing.assert_close(together, other, rtol=1e-4, atol=1e-4)
        for channel in (0, 1):
            order = together[:, channel].topk(9).indices.tolist()
            assert other[:, channel].topk(9).indices.tolist() == order
    assert bool((together.topk(9, 0).values > 0).all())


def test_figure_of_a_photograph_can_be_made_again(rec: dv.Recording, tmp_path: Path) -> None:
    proj = rec.project(LAYER, rec.strongest(LAYER, 4, channel=FACES)[:1])
    figure = proj.save(tmp_path / "face.png", dpi=60).figure
    again = dv.remake(tmp_path / "face.json").projection
    assert figure.stat().st_size > 10_000
    assert torch.equal(again.pixels, proj.pixels) or difference(again.pixels, proj.pixels) <= 1e-4
