"""Casts to integers and booleans receive no signal, and are never reported as exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.asking import Calls, check_pixels, noise, seeded, wrapped
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

import deconvviz as dv

CASTS: dict[str, Callable[[Tensor], Tensor]] = {
    "long()": lambda x: x.long(),
    "int()": lambda x: x.int(),
    "short()": lambda x: x.short(),
    "byte()": lambda x: x.clamp(min=0).byte(),
    "char()": lambda x: x.char(),
    "bool()": lambda x: x.bool(),
    "to(torch.int64)": lambda x: x.to(torch.int64),
    "to(torch.uint8)": lambda x: x.relu().to(torch.uint8),
    "to(torch.bool)": lambda x: x.relu().to(torch.bool),
    "to(other)": lambda x: x.to(torch.zeros(1, dtype=torch.int32)),
    "type(torch.int32)": lambda x: x.type(torch.int32),
    "type(torch.LongTensor)": lambda x: x.type(torch.LongTensor),
    "type_as": lambda x: x.type_as(torch.zeros(1, dtype=torch.int16)),
    "long() % 3": lambda x: x.long() % 3,
    "int() + 1": lambda x: x.int() + 1,
    "bool().logical_not()": lambda x: x.relu().bool().logical_not(),
    "new integers copied": lambda x: torch.empty_like(x, dtype=torch.int64).copy_(x),
}


class Quantised(nn.Module):
    """Network that combines a map with its rounded values, followed by a convolution."""

    def __init__(
        self, cast: Callable[[Tensor], Tensor], together: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 2)
        self.rounded = Calls(lambda x: cast(x * 20).to(x.dtype))
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.together(x, self.rounded(x)))


def added(x: Tensor, rounded: Tensor) -> Tensor:
    return x + rounded


def multiplied(x: Tensor, rounded: Tensor) -> Tensor:
    return x.roll(1, 1) * (rounded + 1)


def without_the_cast(network: Quantised, images: Tensor) -> Autograd:
    """Return the autograd oracle of the same network, with the rounded values as constants."""

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network.rounded(x.detach())

    same = Quantised(lambda x: x, network.together).double().eval()
    same.first, same.last, same.rounded = network.first, network.last, Constant().eval()  # type: ignore[assignment]
    return Autograd(same, images)


@pytest.mark.parametrize("together", [added, multiplied])
@pytest.mark.parametrize("name", CASTS)
def test_cast_to_integers_is_a_constant_and_approximate(
    name: str, together: Callable[[Tensor, Tensor], Tensor]
) -> None:
    network, images = seeded(lambda: Quantised(CASTS[name], together)), noise(2, 3, 9, 8)
    oracle = without_the_cast(network, images)  # type: ignore[arg-type]
    activations = oracle.outputs["last"].detach()
    with torch.no_grad():
        assert torch.equal(network(images), activations)
    found = check_pixels(network, images, "last", oracle)
    assert not found.coverage.unsupported
    if together is multiplied:
        assert found.coverage.approximate


def test_relu_cast_to_integers_and_back_is_a_constant() -> None:
    def build() -> nn.Module:
        cast = Calls(lambda x: torch.relu(x * 20).long().to(x.dtype))
        return nn.Sequential(nn.Conv2d(3, 4, 3), cast, nn.Conv2d(4, 2, 1))

    network, images = seeded(build), noise(2, 3, 9, 8)
    net = wrapped(network, images)
    assert net.layers["1"].is_constant and net.layers["2"].is_constant
    recording = net.record(images, ["0", "1", "2"])
    assert recording.activations("1").any()
    for layer in ("1", "2"):
        found = recording.project(layer, recording.strongest(layer, 2))
        assert not found.pixels.any()
        assert not found.coverage.exact
    check_pixels(network, images, "0", Autograd(network, images))


@pytest.mark.parametrize("name", CASTS)
def test_layer_of_integers_is_never_exact(name: str) -> None:
    network = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Calls(lambda x: CASTS[name](x * 20).to(x.dtype)))
    )
    images = noise(1, 3, 9, 8)
    net = wrapped(network, images)
    assert net.layers["1"].is_constant
    recording = net.record(images, "1")
    for coverage in (net.coverage("1"), recording.coverage("1")):
        assert not coverage.exact, coverage
    assert not recording.project("1", dv.Unit(0, 1, 2, 2)).pixels.any()


FLOATING: dict[str, Callable[[Tensor], Tensor]] = {
    "float()": lambda x: x.float(),
    "double()": lambda x: x.double(),
    "half()": lambda x: x.half(),
    "bfloat16()": lambda x: x.bfloat16(),
    "to(torch.float32)": lambda x: x.to(torch.float32),
    "type_as": lambda x: x.type_as(torch.zeros(1, dtype=torch.float32)),
}


@pytest.mark.parametrize("name", FLOATING)
def test_cast_to_another_floating_point_dtype_passes_the_signal(name: str) -> None:
    def build() -> nn.Module:
        cast = Calls(lambda x: FLOATING[name](x).to(x.dtype))
        return nn.Sequential(nn.Conv2d(3, 4, 3), cast, nn.ReLU(), nn.Conv2d(4, 2, 2))

    network, images = seeded(build), noise(2, 3, 9, 8)
    recording = wrapped(network, images).record(images, "3")
    found = recording.project("3", recording.strongest("3", 2))
    assert not found.coverage.approximate and not found.coverage.unsupported
    plain = nn.Sequential(network[0], nn.ReLU(), network[3]).eval()  # type: ignore[index]
    oracle = Autograd(plain, images)
    for pixels, unit in zip(found.pixels, found.units, strict=True):
        signal = torch.zeros_like(oracle.outputs["2"])
        signal[unit.image, unit.channel, unit.y, unit.x] = unit.activation
        want = oracle.project("2", signal)[unit.image]
        assert want.any()
        assert difference(pixels, want) <= 1e-6
