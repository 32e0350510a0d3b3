"""Branches, and one function written in many ways: the tape contains calls, not modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.chains import CHANNELS, chains, positive
from helpers.oracles import Autograd, difference, seen_pixels
from hypothesis import given, settings
from torch import Tensor, nn

from deconvviz.engine.units import Unit


class Wired(nn.Module):
    """Two convolutions and a ReLU, connected by a function. The output is that of the module `end`."""

    def __init__(self, wiring: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.end = nn.Identity()
        self.wiring = wiring
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.wiring(self, x))


def _choice(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.relu(y) if y.sum().item() > 0 else net.b(net.relu(y))


WIRINGS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "functional ReLU": lambda net, x: net.b(F.relu(net.a(x))),
    "torch.relu": lambda net, x: net.b(torch.relu(net.a(x))),
    "method": lambda net, x: net.b(net.a(x).relu()),
    "in place": lambda net, x: net.b(net.a(x).relu_()),
    "in place, functional": lambda net, x: net.b(F.relu(net.a(x), inplace=True)),
    "in place, then a view": lambda net, x: net.b(net.a(x).relu_().view(x.shape[0], 4, -1).view(-1, 4, 7, 8)),
    "in place on a view": lambda net, x: net.b(net.a(x).view(-1, 4, 7, 8).relu_()),
    "one ReLU module three times": lambda net, x: net.relu(net.b(net.relu(net.b(net.relu(net.a(x)))))),
    "residual": lambda net, x: net.relu(net.a(x)) + net.b(net.relu(net.a(x))),
    "difference": lambda net, x: net.relu(net.a(x)) - net.b(net.relu(net.a(x))),
    "sum with a factor": lambda net, x: torch.add(net.a(x), net.b(net.relu(net.a(x))), alpha=-2.5),
    "in-place sum": lambda net, x: net.a(x).add_(net.b(net.a(x))),
    "map added to itself": lambda net, x: (lambda y: y + y)(net.relu(net.a(x))),
    "constant added": lambda net, x: net.b(net.a(x) + torch.arange(8.0)),
    "number added": lambda net, x: net.b(net.a(x) + 1.5),
    "broadcast map": lambda net, x: net.a(x) + F.adaptive_avg_pool2d(net.b(net.a(x)), 1),
    "broadcast channel": lambda net, x: net.a(x) + net.b(net.a(x)).mean(1, keepdim=True),
    "concat": lambda net, x: torch.cat([net.a(x), x, net.b(net.relu(net.a(x)))], 1),
    "concat of rows": lambda net, x: net.b(torch.cat([net.a(x), net.b(net.relu(net.a(x)))], 2)),
    "concat of columns": lambda net, x: net.b(torch.cat([net.relu(net.a(x)), net.a(x)], 3)),
    "concat with an empty tensor": lambda net, x: torch.cat(
        [torch.empty(0).double(), net.a(x), net.b(net.a(x))], 2
    ),
    "branches of two depths": lambda net, x: net.relu(net.b(net.b(net.a(x)))) + F.relu(net.a(x)),
    "data-dependent": _choice,
    "unused branch": lambda net, x: (net.b(net.a(x)), net.relu(net.a(x)))[1],
    "float32 in between": lambda net, x: net.b(net.a(x).float().relu().double()),
}


@pytest.mark.parametrize("wiring", WIRINGS.values(), ids=WIRINGS.keys())
@pytest.mark.parametrize("sign", [1, -1])
def test_projections_of_wirings_equal_autograd(wiring: Callable[[Any, Tensor], Tensor], sign: int) -> None:
    network = Wired(wiring)
    images = sign * torch.rand(2, 3, 7, 8, generator=torch.Generator().manual_seed(1)).double()
    ours, theirs = passes.run(network, images), Autograd(network, images)
    activations = ours.outputs["end"]
    assert torch.equal(activations, theirs.outputs["end"].detach())
    random = torch.randn(activations.shape, generator=torch.Generator().manual_seed(2)).double()
    for signal in (activations, random):
        want = theirs.project("end", signal)
        assert bool(want.any())
        assert difference(ours.signals("end", signal, [0, 1]), want) <= 1e-12
    units = [Unit(1, 2, 3, 4), Unit(0, 0, 0, 7), Unit(0, 3, 6, 0)]
    pixels, _ = ours.units("end", units)
    for unit, one in zip(units, pixels, strict=True):
        want = theirs.unit("end", unit.image, unit.channel, unit.y, unit.x)  # type: ignore[arg-type]
        assert difference(one, want) <= 1e-12


def test_python_branch_is_recorded_as_executed() -> None:
    network = Wired(_choice)
    bright = passes.run(network, torch.ones(1, 3, 7, 8).double())
    dark = passes.run(network, -torch.ones(1, 3, 7, 8).double())
    paths = [[str(step.op) for step in one.tape.path(one.values["end"])] for one in (bright, dark)]
    assert sorted(paths, key=len) == [
        ["aten.convolution.default", "aten.relu.default"],
        ["aten.convolution.default", "aten.relu.default", "aten.convolution.default"],
    ]


def test_module_called_several_times_has_several_outputs() -> None:
    tape = passes.run(Wired(WIRINGS["one ReLU module three times"]), torch.rand(1, 3, 7, 8).double()).tape
    found = [(out.module, out.call) for out in tape.outputs if out.module in ("relu", "b")]
    assert found == [("relu", 1), ("b", 1), ("relu", 2), ("b", 2), ("relu", 3)]


class Fork(nn.Module):
    """Two branches of one map, joined by a sum or by concat and followed by a chain."""

    def __init__(self, left: nn.Module, right: nn.Module, tail: nn.Module, joined: str) -> None:
        super().__init__()
        self.left, self.right, self.tail, self.joined = left, right, tail, joined
        self.end = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        if self.joined == "sum":
            return self.end(self.tail(left + right))
        return self.end(self.tail(torch.cat([left, right], 1)))


@st.composite
def forks(draw: Any) -> tuple[nn.Module, Tensor]:
    """Draw a fork whose branches keep the size of the map."""
    joined = draw(st.sampled_from(["sum", "concat"]))
    head, images = draw(chains(longest=2, sizes=(5, 12)))
    torch.manual_seed(draw(st.integers(0, 999)))
    branches = [
        nn.Sequential(*(part for _ in range(draw(st.integers(0, 2))) for part in draw(_keeping_size())))
        for _ in range(2)
    ]
    wide = CHANNELS * (2 if joined == "concat" else 1)
    kernel, stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    tail = nn.Sequential(nn.Conv2d(wide, 4, kernel, stride, padding=1))
    return nn.Sequential(head, Fork(*branches, tail, joined)).double().eval(), images


@st.composite
def _keeping_size(draw: Any) -> list[nn.Module]:
    reach = draw(st.integers(0, 2))
    apart = draw(st.integers(1, 2))
    layer = nn.Conv2d(CHANNELS, CHANNELS, 2 * reach + 1, padding=reach * apart, dilation=apart, groups=2)
    return [layer, draw(st.sampled_from([nn.ReLU(), nn.Identity(), nn.MaxPool2d(3, 1, padding=1)]))]


@pytest.mark.slow
@given(forks(), st.data())
@settings(max_examples=3 * settings.default.max_examples)
def test_projections_of_forks_equal_autograd(case: Any, data: Any) -> None:
    network, images = case
    ours, theirs = passes.run(network, images), Autograd(network, images)
    activations = ours.outputs["1"]
    b, c, h, w = (data.draw(st.integers(0, n - 1)) for n in activations.shape)
    pixels, _ = ours.units("1", [Unit(b, c, h, w), Unit(0, 0, 0, 0)])
    assert difference(pixels[0], theirs.unit("1", b, c, h, w)) <= 1e-11
    assert difference(pixels[1], theirs.unit("1", 0, 0, 0, 0)) <= 1e-11
    alone, _ = ours.units("1", [Unit(b, c, h, w)])
    assert difference(alone[0], pixels[0]) <= 1e-11


@given(forks(), st.data())
def test_boxes_of_forks_contain_the_pixels_that_can_change_a_unit(case: Any, data: Any) -> None:
    network, images = case
    ours = passes.run(positive(network), images[:1])
    _, c, h, w = (data.draw(st.integers(0, n - 1)) for n in ours.outputs["1"].shape)
    _, [(x0, y0, x1, y1)] = ours.units("1", [Unit(0, c, h, w)])
    seen = seen_pixels(network, "1", images.shape[1:], (c, h, w))
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if len(rows):
        assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


BROADCAST = {
    "mean over channels": lambda net, x: net.b(net.a(x)).mean(1, keepdim=True),
    "mean over rows": lambda net, x: net.b(net.a(x)).mean(2, keepdim=True),
    "one channel added to four": lambda net, x: net.a(x) + net.a(x).mean(1, keepdim=True),
    "one row added to all": lambda net, x: net.a(x) + net.a(x).mean(2, keepdim=True),
}


@pytest.mark.parametrize("wiring", [BROADCAST[name] for name in BROADCAST], ids=BROADCAST)
def test_boxes_and_projections_of_means_and_broadcast_sums(wiring: Any) -> None:
    network = Wired(wiring)
    images = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(4)).double()
    ours, theirs = passes.run(network, images), Autograd(network, images)
    _, c, h, w = (n - 1 for n in ours.outputs["end"].shape)
    for place in ((0, 0, 0), (c, h, w), (c, h // 2, w // 2)):
        [pixels], _ = ours.units("end", [Unit(0, *place)])
        assert difference(pixels, theirs.unit("end", 0, *place)) <= 1e-11
    ours = passes.run(positive(network), images)
    for place in ((0, 0, 0), (c, h, w), (c, h // 2, w // 2)):
        _, [(x0, y0, x1, y1)] = ours.units("end", [Unit(0, *place)])
        seen = seen_pixels(network, "end", images.shape[1:], place)
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


APPROXIMATE = [
    nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(-0.3, 0.7), nn.LeakyReLU(0.2),
    nn.LeakyReLU(0.1, inplace=True), nn.ELU(), nn.SiLU(), nn.SiLU(inplace=True), nn.GELU(),
    nn.GELU(approximate="tanh"), nn.Hardswish(), nn.Mish(), nn.Softplus(),
]  # fmt: skip


@pytest.mark.parametrize("activation", APPROXIMATE, ids=str)
def test_relu_like_activation_rectifies_the_signal(activation: nn.Module) -> None:
    network = Wired(lambda net, x: net.b(activation(net.a(x))))
    images = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(3)).double()
    ours, theirs = passes.run(network, images), Autograd(network, images)
    activations = ours.outputs["end"]
    assert torch.equal(activations, theirs.outputs["end"].detach())
    assert difference(ours.signals("end", activations, [0, 1]), theirs.project("end", activations)) <= 1e-12
