"""Signals are overwritten only where nothing else needs them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from helpers import passes
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.rules.activation import ReLU
from deconvviz.engine.rules.rule import Rule


class Shared(nn.Module):
    """A sum passes one signal to several branches, which rectify it or let it through."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        y = x.relu() + x + self.two(x.relu())
        return y + y.relu() + self.two(y).relu()


class InPlaceEverywhere(ReLU):
    """What the engine must never do: overwrite a signal without knowing whether another branch needs it."""

    def project(self, signal: Tensor, window: object, input_windows: Sequence[object]) -> Sequence[Tensor]:
        return [signal.clamp_min_(0)]


def projected(net: nn.Module, images: Tensor) -> Tensor:
    chosen = [dv.Unit(0, 0, 3, 3), dv.Unit(0, 2, 0, 7), dv.Unit(0, 1)]
    return passes.run(net, images).units("", chosen)[0]


def test_branches_that_share_a_signal_do_not_change_it_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    net, images = Shared().double(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    found = projected(net, images)
    monkeypatch.setattr(ReLU, "project_over", Rule.project_over)
    expected = projected(net, images)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
    monkeypatch.setattr(ReLU, "project", InPlaceEverywhere.project)
    assert not torch.allclose(projected(net, images), expected)  # the network can tell


def test_most_signals_are_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"over": 0, "new": 0}
    over, new = ReLU.project_over, ReLU.project
    monkeypatch.setattr(
        ReLU, "project_over", lambda self, *args: counts.update(over=counts["over"] + 1) or over(self, *args)
    )
    monkeypatch.setattr(
        ReLU, "project", lambda self, *args: counts.update(new=counts["new"] + 1) or new(self, *args)
    )
    layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()) for _ in range(4)]
    projected(nn.Sequential(*layers), torch.randn(1, 3, 8, 8))
    assert counts == {"over": 3, "new": 1}  # the signal of the units themselves is not overwritten


def test_tensor_that_is_projected_is_not_changed() -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), shape=(3, 8, 8))
    rec = net.record(torch.randn(1, 3, 8, 8), "1")
    given = torch.randn(1, 4, 6, 6)
    before, activations = given.clone(), rec.activations("1").clone()
    rec.project("1", given, image_indices=[0])
    assert torch.equal(given, before)
    assert torch.equal(rec.activations("1"), activations)


def test_subclass_with_another_projection_does_not_inherit_that_it_overwrites() -> None:
    assert ReLU.returns_new and ReLU.project_over is not Rule.project_over
    assert not InPlaceEverywhere.returns_new and InPlaceEverywhere.project_over is Rule.project_over
