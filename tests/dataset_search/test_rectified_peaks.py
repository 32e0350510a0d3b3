"""The peaks of a ReLU in place are taken from those of its input, if nothing else has written to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search import peak_finder as peaks
from deconvviz.dataset_search.peak_finder import finding

PICTURES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Shifted(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(0.25)


class Net(nn.Module):
    def __init__(self, relu: nn.Module, between: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.relu, self.between = nn.Conv2d(3, 5, 3), relu, between
        with torch.no_grad():
            self.conv.bias[1] = -100  # a map without anything above zero

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.between(self.conv(x)))


def _patched() -> nn.Module:
    relu = nn.ReLU(inplace=True)
    relu.forward = lambda x: x.mul_(-1)
    return relu


NETS = {
    "in place": (Net(nn.ReLU(inplace=True)), True),
    "not in place": (Net(nn.ReLU()), False),
    "added to before": (Net(nn.ReLU(inplace=True), lambda x: x.add_(0.5)), False),
    "written to through a view": (Net(nn.ReLU(inplace=True), lambda x: (x[:, 0].fill_(3), x)[1]), False),
    "another tensor": (Net(nn.ReLU(inplace=True), lambda x: x + 1), False),
    "a subclass": (Net(Shifted(inplace=True)), False),
    "patched": (Net(_patched()), False),
}


@pytest.mark.parametrize("name", NETS)
def test_peaks_of_a_relu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, short = NETS[name]
    network = dv.Network(net, size=8)
    layers = [network.layers.find("conv"), network.layers.find("relu")]
    taken: list[int] = []
    rectified = peaks._rectified
    monkeypatch.setattr(peaks, "_rectified", lambda *given: (taken.append(1), rectified(*given))[1])
    with finding(network, layers) as find:
        said, places = find(PICTURES)
    assert bool(taken) == short
    with torch.no_grad():
        conv = net.conv(PICTURES)
        maps = torch.cat([conv.clone(), net(PICTURES)], dim=1).flatten(2).numpy()
    assert np.array_equal(said, maps.max(axis=2))
    assert np.array_equal(places, maps.argmax(axis=2))
    if short:
        assert (said[:, 6] == 0).all() and (places[:, 6] == 0).all()
