"""Subclasses of Tensor as inputs, weights or activations are recorded like plain tensors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.oracles import Autograd, difference
from helpers.snapshots import left_as_it_was, pictures, wrapped
from torch import Tensor, nn
from torchvision import tv_tensors

import deconvviz as dv


class Image(torch.Tensor):
    """Subclass without attributes: the minimal reproduction of the reported bug."""


class Titled(torch.Tensor):
    """Subclass with an attribute."""

    title = "untitled"


class Counted(torch.Tensor):
    """Subclass that overrides `__torch_function__`."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls += 1
        return super().__torch_function__(func, types, args, kwargs or {})


class Quiet(torch.Tensor):
    """Subclass whose functions return plain tensors."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def titled(x: Tensor) -> Tensor:
    result = x.as_subclass(Titled)
    result.title = "a cat"
    return result


SUBCLASSES = {
    "plain subclass": lambda x: x.as_subclass(Image),
    "with an attribute": titled,
    "with __torch_function__": lambda x: x.as_subclass(Counted),
    "with __torch_function__ disabled": lambda x: x.as_subclass(Quiet),
    "image of torchvision": tv_tensors.Image,
    "mask of torchvision": tv_tensors.Mask,
    "parameter": lambda x: nn.Parameter(x.clone()),
    "buffer": lambda x: nn.Buffer(x.clone()) if hasattr(nn, "Buffer") else x,
    "parameter of a subclass": lambda x: nn.Parameter(x.clone().as_subclass(Image)),
}


def convolutions() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20, 3),
        )


def check_alike(ours: dv.Recording, theirs: dv.Recording) -> None:
    """Check that two recordings are equal, and that the tensors of the first are plain."""
    assert type(ours.inputs) is Tensor and torch.equal(ours.inputs, theirs.inputs)
    assert not ours.inputs.requires_grad
    for layer in theirs.layers:
        activations = ours.activations(layer.name)
        assert type(activations) is Tensor and torch.equal(activations, theirs.activations(layer.name))
        proj, want = (rec.project(layer.name, rec.strongest(layer.name, 3)) for rec in (ours, theirs))
        assert type(proj.pixels) is Tensor and torch.equal(proj.pixels, want.pixels)
        assert bool(proj.pixels.any())
        assert proj.units == want.units and proj.boxes == want.boxes
        assert type(proj.inputs) is Tensor


@pytest.mark.parametrize("which", SUBCLASSES)
def test_input_of_a_subclass_is_recorded_as_a_plain_tensor(which: str) -> None:
    net, x = wrapped(convolutions()), pictures(2)
    given = SUBCLASSES[which](x)
    rec = net.record(given, ["0", "3", "output"])
    check_alike(rec, net.record(x, ["0", "3", "output"]))
    assert torch.equal(given.detach().as_subclass(Tensor), x)


@pytest.mark.parametrize("which", SUBCLASSES)
def test_projection_of_an_input_of_a_subclass_equals_autograd(which: str) -> None:
    module, x = convolutions().eval(), pictures()
    proj = dv.project(wrapped(module), SUBCLASSES[which](x), "3", k=2)
    oracle = Autograd(module, x)
    for ours, unit in zip(proj.pixels, proj.units, strict=True):
        assert unit.y is not None and unit.x is not None
        assert difference(ours, oracle.unit("3", 0, unit.channel, unit.y, unit.x)) < 1e-5


@pytest.mark.parametrize("which", SUBCLASSES)
def test_signal_of_a_subclass_is_projected_as_a_plain_tensor(which: str) -> None:
    rec = wrapped(convolutions()).record(pictures(2), "3")
    signal = torch.randn(2, 5, 2, 2, generator=torch.Generator().manual_seed(3))
    pixels = rec.project("3", SUBCLASSES[which](signal)).pixels
    assert type(pixels) is Tensor and not pixels.requires_grad
    assert torch.equal(pixels, rec.project("3", signal).pixels)


class ToSubclass(nn.Module):
    """Module that returns its input as a subclass."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.which = which

    def forward(self, x: Tensor) -> Tensor:
        if self.which == "tv_tensors.wrap":
            return tv_tensors.wrap(x, like=tv_tensors.Image(torch.zeros(1, 3, 2, 2)))
        if self.which == "_make_subclass":
            return torch.Tensor._make_subclass(Image, x)
        if self.which == "subclass and plain again":
            return x.as_subclass(Image).as_subclass(tv_tensors.Image).as_subclass(Tensor)
        if self.which == "image of torchvision":
            return x.as_subclass(tv_tensors.Image)
        return x.as_subclass({"plain subclass": Image, "with __torch_function__": Counted}[self.which])


CONVERSIONS = [
    "plain subclass",
    "with __torch_function__",
    "image of torchvision",
    "tv_tensors.wrap",
    "_make_subclass",
    "subclass and plain again",
]


@pytest.mark.parametrize("place", [0, 1, 2, 4, 6, 7])
@pytest.mark.parametrize("which", CONVERSIONS)
def test_network_with_activations_of_a_subclass_is_recorded_as_with_plain_ones(
    which: str, place: int
) -> None:
    plain, turning = convolutions(), convolutions()
    plain.insert(place, nn.Identity())
    turning.insert(place, ToSubclass(which))
    layers = [str(number) for number in (0, 2, 4, 7)] + ["output"]
    with left_as_it_was(turning):
        rec = wrapped(turning).record(pictures(2), layers)
        theirs = wrapped(plain).record(pictures(2), layers)
        assert [one.module for one in rec.layers] == [one.module for one in theirs.layers]
        assert type(rec.inputs) is Tensor
        for ours, want in zip(rec.layers, theirs.layers, strict=True):
            assert (ours.shape, ours.field, ours.unsupported) == (want.shape, want.field, want.unsupported)
            activations = rec.activations(ours.name)
            assert type(activations) is Tensor and torch.equal(activations, theirs.activations(want.name))
            proj = rec.project(ours.name, rec.strongest(ours.name, 2))
            right = theirs.project(want.name, theirs.strongest(want.name, 2))
            assert type(proj.pixels) is Tensor and torch.equal(proj.pixels, right.pixels)


def test_weights_of_a_subclass_give_the_same_projections() -> None:
    """All activations after the first weight are of the subclass too."""
    plain, module = convolutions(), convolutions()
    for part in (module[0], module[3], module[6]):
        part.weight = nn.Parameter(part.weight.detach().as_subclass(Image))
    assert isinstance(module[0].weight, Image)
    check_alike(
        wrapped(module).record(pictures(2), ["0", "3", "output"]),
        wrapped(plain).record(pictures(2), ["0", "3", "output"]),
    )
    assert isinstance(module[0].weight, Image)


def test_network_receives_a_plain_tensor_for_an_input_of_a_subclass() -> None:
    class ChecksType(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if type(x) is Tensor else -x

    module = nn.Sequential(ChecksType(), *convolutions())
    net = wrapped(module)
    rec = net.record(pictures().as_subclass(Image), "1")
    assert torch.equal(rec.activations("1"), module[1](pictures()).detach())


def test_arrays_and_layers_of_a_subclass_equal_those_of_a_plain_tensor() -> None:
    net = wrapped(convolutions())
    rec = net.record(tv_tensors.Image(pictures()), "3")
    proj, want = rec.project("3", rec.strongest("3", 2)), net.record(pictures(), "3").project("3")[:2]
    for name, array in want.arrays().items():
        assert (proj.arrays()[name] == array).all(), name
    assert net.layers.to_json() == wrapped(copy.deepcopy(net.module)).layers.to_json()


def test_search_of_a_layer_that_returns_a_subclass_equals_the_plain_one() -> None:
    from helpers.snapshots import Noise

    plain, turning = convolutions(), convolutions()
    plain.insert(4, nn.Identity())
    turning.insert(4, ToSubclass("plain subclass"))
    found, want = (
        dv.search(wrapped(module), Noise(3), ["4", "5"], batch_size=2, workers=0)
        for module in (turning, plain)
    )
    for layer in ("4", "5"):
        assert found.top(layer, 1) == want.top(layer, 1)
