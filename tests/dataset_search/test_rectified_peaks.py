"""Peaks of an in-place ReLU are derived from those of its input if nothing else has modified it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search import peak_finder
from deconvviz.dataset_search.peak_finder import open_finder

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Shifted(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(0.25)


class Net(nn.Module):
    def __init__(self, relu: nn.Module, between: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.relu, self.between = nn.Conv2d(3, 5, 3), relu, between
        with torch.no_grad():
            self.conv.bias[1] = -100  # a feature map without values above zero

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.between(self.conv(x)))


def _patched() -> nn.Module:
    relu = nn.ReLU(inplace=True)
    relu.forward = lambda x: x.mul_(-1)
    return relu


NETS = {
    "in place": (Net(nn.ReLU(inplace=True)), True),
    "not in place": (Net(nn.ReLU()), False),
    "input modified before": (Net(nn.ReLU(inplace=True), lambda x: x.add_(0.5)), False),
    "input modified through a view": (Net(nn.ReLU(inplace=True), lambda x: (x[:, 0].fill_(3), x)[1]), False),
    "input is another tensor": (Net(nn.ReLU(inplace=True), lambda x: x + 1), False),
    "subclass": (Net(Shifted(inplace=True)), False),
    "replaced forward": (Net(_patched()), False),
}


@pytest.mark.parametrize("name", NETS)
def test_peaks_of_relu_are_derived_only_from_its_unmodified_input(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, short = NETS[name]
    network = dv.Network(net, size=8)
    layers = [network.layers.find("conv"), network.layers.find("relu")]
    derived: list[int] = []
    rectified = peak_finder._rectified
    monkeypatch.setattr(peak_finder, "_rectified", lambda *given: (derived.append(1), rectified(*given))[1])
    with open_finder(network, layers) as find:
        activations, places = find(IMAGES)
    assert bool(derived) == short
    with torch.no_grad():
        conv = net.conv(IMAGES)
        maps = torch.cat([conv.clone(), net(IMAGES)], dim=1).flatten(2).numpy()
    assert np.array_equal(activations, maps.max(axis=2))
    assert np.array_equal(places, maps.argmax(axis=2))
    if short:
        assert (activations[:, 6] == 0).all() and (places[:, 6] == 0).all()
