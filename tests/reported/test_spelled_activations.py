"""Activations that are written out in several calls, compared with the same network with modules."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.asking import Calls, check_pixels, noise, seeded, wrapped
from helpers.oracles import Autograd, difference
from helpers.semantics import Semantics
from torch import Tensor, nn

import deconvviz as dv

Function = Callable[[Tensor], Tensor]
LAYERS = ["1", "4"]


class Rectified(nn.Module):
    """Module that computes a function in the forward pass, and rectifies the projected signal."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return Semantics().rectify(x, self.function(x.detach().clone()))


def network(activation: Callable[[], nn.Module]) -> nn.Module:
    """Return a network of three convolutions with an activation after the first two."""

    def build() -> nn.Module:
        first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, stride=2, padding=1)
        return nn.Sequential(first, activation(), second, activation(), nn.Conv2d(6, 4, 3))

    return seeded(build)


def check_as(spelled: Callable[[], nn.Module], module: Callable[[], nn.Module]) -> dv.Coverage:
    """Check that projections equal those of the network with the module; return the coverage."""
    images = noise(2, 3, 13, 12)
    ours, theirs = network(spelled), network(module)
    oracle = Autograd(theirs, images)
    with torch.no_grad():
        assert difference(ours(images), oracle.outputs[""].detach()) <= 1e-12
    for layer in LAYERS:
        found = check_pixels(ours, images, layer, oracle)
        assert not found.coverage.unsupported, layer
    return found.coverage


def _set_to_zero(x: Tensor, key: Tensor) -> Tensor:
    x[key] = 0
    return x


RELU: dict[str, Function] = {
    "maximum(x, zeros(()))": lambda x: torch.maximum(x, torch.zeros(())),
    "maximum(zeros like a channel, x)": lambda x: torch.maximum(x.new_zeros(6, 1, 1), x),
    "x.maximum(tensor(0.0))": lambda x: x.maximum(torch.tensor(0.0, dtype=x.dtype)),
    "max(x, zeros_like(x))": lambda x: torch.max(x, torch.zeros_like(x)),
    "max(zeros_like(x), x)": lambda x: torch.max(torch.zeros_like(x), x),
    "x.max(new_zeros(()))": lambda x: x.max(x.new_zeros(())),
    "fmax(x, 0)": lambda x: torch.fmax(x, x.new_zeros(())),
    "fmax(0, x)": lambda x: torch.fmax(x.new_zeros(()), x),
    "clamp(min=tensor)": lambda x: x.clamp(min=x.new_zeros(())),
    "clamp_min(tensor)": lambda x: torch.clamp_min(x, torch.zeros_like(x)),
    "clamp_(min=tensor)": lambda x: x.clamp_(min=x.new_zeros(1, 6, 1, 1)),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "where(x > 0, x, 0)": lambda x: torch.where(x > 0, x, 0),
    "where(x >= 0, x, 0.0)": lambda x: torch.where(x >= 0, x, 0.0),
    "where(x > 0, x, zeros_like(x))": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where(x > 0, x, tensor(0))": lambda x: torch.where(x > 0, x, torch.tensor(0.0, dtype=x.dtype)),
    "where(x < 0, 0, x)": lambda x: torch.where(x < 0, 0, x),
    "where(x <= 0, zeros_like(x), x)": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "where(0 < x, x, 0)": lambda x: torch.where(torch.lt(x.new_zeros(()), x), x, 0),
    "x.where(x > 0, 0)": lambda x: x.where(x > 0, x.new_zeros(())),
    "where(x > zeros_like(x), x, 0)": lambda x: torch.where(x > torch.zeros_like(x), x, 0),
    "x * (x > 0)": lambda x: x * (x > 0),
    "(x > 0) * x": lambda x: (x > 0) * x,
    "x * (x >= 0)": lambda x: x * (x >= 0),
    "x * ~(x < 0)": lambda x: x * ~(x < 0),
    "x * (x > 0).float()": lambda x: x * (x > 0).float(),
    "x * (x > 0).to(x.dtype)": lambda x: x * (x > 0).to(x.dtype),
    "x * (x > 0).type_as(x)": lambda x: x * (x > 0).type_as(x),
    "x * (x > 0).long()": lambda x: x * (x > 0).long(),
    "x.mul(x.gt(0).double())": lambda x: x.mul(x.gt(0).double()),
    "x.mul_(x > 0)": lambda x: x.mul_(x > 0),
    "x *= (x > 0)": lambda x: x.__imul__(x > 0),
    "masked_fill(x < 0, 0)": lambda x: x.masked_fill(x < 0, 0),
    "masked_fill(x <= 0, 0.0)": lambda x: x.masked_fill(x <= 0, 0.0),
    "masked_fill(~(x > 0), 0)": lambda x: x.masked_fill(~(x > 0), 0),
    "masked_fill(logical_not(x > 0), 0)": lambda x: torch.masked_fill(x, torch.logical_not(x > 0), 0),
    "masked_fill_(x < 0, 0)": lambda x: x.masked_fill_(x < 0, 0),
    "x[x < 0] = 0": lambda x: _set_to_zero(x, x < 0),
    "x[x <= 0] = 0, on a copy": lambda x: _set_to_zero(x.clone(), x <= 0),
}


@pytest.mark.parametrize("name", RELU)
def test_relu_written_out_is_exact_and_projected_as_the_module(name: str) -> None:
    coverage = check_as(lambda: Calls(RELU[name]), nn.ReLU)
    assert not coverage.approximate, coverage


LEAKY: dict[str, Function] = {
    "maximum(x, 0.2 * x)": lambda x: torch.maximum(x, 0.2 * x),
    "maximum(x * 0.2, x)": lambda x: torch.maximum(x * 0.2, x),
    "max(x, x / 5)": lambda x: torch.max(x, x / 5),
    "fmax(x, 0.2 * x)": lambda x: torch.fmax(x, 0.2 * x),
    "x.maximum(x.mul(0.2))": lambda x: x.maximum(x.mul(0.2)),
    "maximum(x, tensor(0.2) * x)": lambda x: torch.maximum(x, torch.tensor(0.2, dtype=x.dtype) * x),
    "where(x > 0, x, 0.2 * x)": lambda x: torch.where(x > 0, x, 0.2 * x),
    "where(x >= 0, x, x * 0.2)": lambda x: torch.where(x >= 0, x, x * 0.2),
    "where(x < 0, 0.2 * x, x)": lambda x: torch.where(x < 0, 0.2 * x, x),
    "where(x <= 0, x / 5, x)": lambda x: torch.where(x <= 0, x / 5, x),
}
SILU: dict[str, Function] = {
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "sigmoid(x) * x": lambda x: torch.sigmoid(x) * x,
    "x.sigmoid().mul(x)": lambda x: x.sigmoid().mul(x),
    "x.mul_(x.sigmoid())": lambda x: x.mul_(x.sigmoid()),
    "x.sigmoid().mul_(x)": lambda x: x.sigmoid().mul_(x),
    "x.clone().sigmoid_() * x": lambda x: x.clone().sigmoid_() * x,
    "x * sigmoid(1.0 * x)": lambda x: x * torch.sigmoid(1.0 * x),
}
HARDSWISH: dict[str, Function] = {
    "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "x * (relu6(x + 3) / 6)": lambda x: x * (F.relu6(x + 3) / 6),
    "relu6(x + 3) / 6 * x": lambda x: F.relu6(x + 3) / 6 * x,
    "relu6(x + 3) * x / 6": lambda x: F.relu6(x + 3) * x / 6,
    "x / 6 * relu6(x + 3)": lambda x: x / 6 * F.relu6(x + 3),
    "x * relu6(x + 3) * (1 / 6)": lambda x: x * F.relu6(x + 3) * (1 / 6),
    "relu6(x + 3).div_(6).mul_(x)": lambda x: F.relu6(x + 3).div_(6).mul_(x),
    "x * hardtanh(x + 3, 0, 6) / 6": lambda x: x * F.hardtanh(x + 3, 0, 6) / 6,
    "x * (x + 3).clamp(0, 6) / 6": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "x * (x + 3).relu().clamp_max(6) / 6": lambda x: x * F.relu6(3 + x, inplace=True) / 6,
    "x * clamp(x / 6 + 0.5, 0, 1)": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    "x * hardsigmoid(x)": lambda x: x * F.hardsigmoid(x),
}
MISH: dict[str, Function] = {
    "x * tanh(softplus(x))": lambda x: x * torch.tanh(F.softplus(x)),
    "tanh(softplus(x)) * x": lambda x: F.softplus(x).tanh() * x,
    "x.mul(softplus(x).tanh_())": lambda x: x.mul(F.softplus(x).tanh_()),
}
ROOT, TAU = math.sqrt(2), math.sqrt(2 / math.pi)
GELU: dict[str, Function] = {
    "0.5 * x * (1 + erf(x / sqrt(2)))": lambda x: 0.5 * x * (1 + torch.erf(x / ROOT)),
    "x * 0.5 * (1.0 + erf(x * sqrt(0.5)))": lambda x: x * 0.5 * (1.0 + torch.erf(x * ROOT / 2)),
    "x * (0.5 * (1 + erf(x / sqrt(2))))": lambda x: x * (0.5 * (1 + torch.erf(x / ROOT))),
    "0.5 * (x * (1 + erf(x / sqrt(2))))": lambda x: 0.5 * (x * (1 + torch.erf(x / ROOT))),
    "x / 2 * (erf(x / sqrt(2)) + 1)": lambda x: x / 2 * (torch.special.erf(x / ROOT) + 1),
}
TANH_GELU: dict[str, Function] = {
    "0.5 * x * (1 + tanh(t * (x + c * x ** 3)))": lambda x: (
        0.5 * x * (1 + torch.tanh(TAU * (x + 0.044715 * x**3)))
    ),
    "0.5 * x * (1 + tanh(t * (x + c * pow(x, 3.0))))": lambda x: (
        0.5 * x * (1.0 + torch.tanh(TAU * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "0.5 * x * (1 + tanh(t * x * (1 + c * x * x)))": lambda x: (
        0.5 * x * (1.0 + torch.tanh(TAU * x * (1.0 + 0.044715 * x * x)))
    ),
    "x * (0.5 * (1 + tanh(...)))": lambda x: x * (0.5 * (1 + torch.tanh(TAU * (x + 0.044715 * x * x * x)))),
}
QUICK: dict[str, Function] = {
    "x * sigmoid(1.702 * x)": lambda x: x * torch.sigmoid(1.702 * x),
    "sigmoid(x * 1.702) * x": lambda x: torch.sigmoid(x * 1.702) * x,
    "x.mul_(sigmoid(1.702 * x))": lambda x: x.mul_(torch.sigmoid(1.702 * x)),
}
APPROXIMATE: dict[str, tuple[Function, Callable[[], nn.Module]]] = {
    name: (function, module)
    for functions, module in (
        (LEAKY, lambda: nn.LeakyReLU(0.2)),
        (SILU, nn.SiLU),
        (HARDSWISH, nn.Hardswish),
        (MISH, nn.Mish),
        (GELU, nn.GELU),
        (TANH_GELU, lambda: nn.GELU(approximate="tanh")),
        (QUICK, lambda: Rectified(lambda x: x * torch.sigmoid(1.702 * x))),
    )
    for name, function in functions.items()
}


@pytest.mark.parametrize("name", APPROXIMATE)
def test_activation_written_out_is_approximate_and_projected_as_the_module(name: str) -> None:
    function, module = APPROXIMATE[name]
    coverage = check_as(lambda: Calls(function), module)
    assert coverage.approximate, coverage


@pytest.mark.parametrize("module", [nn.ReLU, nn.SiLU, nn.Hardswish, nn.Mish, nn.GELU, nn.LeakyReLU])
def test_oracle_treats_a_module_and_its_function_alike(module: type[nn.Module]) -> None:
    images = noise(1, 3, 13, 12)
    one, other = Autograd(network(module), images), Autograd(network(lambda: Rectified(module())), images)
    signal = noise(*one.outputs["4"].shape, seed=4)
    below = one.project("4", signal)
    assert below.any()
    assert difference(below, other.project("4", signal)) <= 1e-12


class Gated(nn.Module):
    """Product of a map with a gate, computed from the map as in squeeze-and-excitation."""

    def __init__(self, gate: nn.Module, whole: bool) -> None:
        super().__init__()
        self.first, self.squeeze, self.gate = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), gate
        self.last, self.whole = nn.Conv2d(6, 4, 3), whole

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        mean = x if self.whole else x.mean((2, 3), keepdim=True)
        return self.last(x * self.gate(self.squeeze(mean)))


HARD_SIGMOID: dict[str, Function] = {
    "relu6(x + 3) / 6": lambda x: F.relu6(x + 3) / 6,
    "relu6(x + 3.0) * (1 / 6)": lambda x: F.relu6(x + 3.0) * (1 / 6),
    "relu6(3 + x, inplace) / 6": lambda x: F.relu6(3 + x, inplace=True) / 6,
    "relu6(x.add(3)).div_(6)": lambda x: F.relu6(x.add(3)).div_(6),
    "hardtanh(x + 3, 0, 6) / 6": lambda x: F.hardtanh(x + 3, 0, 6) / 6,
    "(x + 3).clamp(0, 6) / 6": lambda x: (x + 3).clamp(0, 6) / 6,
    "clamp(x / 6 + 0.5, 0, 1)": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),
    "(x * (1 / 6) + 0.5).clamp_(0, 1)": lambda x: (x * (1 / 6) + 0.5).clamp_(0, 1),
    "((x + 3) / 6).clamp(0, 1)": lambda x: ((x + 3) / 6).clamp(0, 1),
}


@pytest.mark.parametrize("whole", [False, True], ids=["gate per channel", "gate per position"])
@pytest.mark.parametrize("name", HARD_SIGMOID)
def test_hard_sigmoid_written_out_is_a_constant(name: str, whole: bool) -> None:
    images = noise(2, 3, 13, 12)
    ours = seeded(lambda: Gated(Calls(HARD_SIGMOID[name]), whole))
    theirs = seeded(lambda: Gated(nn.Hardsigmoid(), whole))
    found = check_pixels(ours, images, "last", Autograd(theirs, images))
    assert found.coverage.approximate and not found.coverage.unsupported
    pixels = wrapped(ours, images).record(images, "gate").project("gate", dv.Unit(0, 1, 0, 0)).pixels
    assert not pixels.any()  # the gate itself receives no signal


def test_product_with_a_gate_of_another_map_is_not_an_activation() -> None:
    """x * sigmoid(y) is a gate; only x * sigmoid(x) is a SiLU."""
    images = noise(2, 3, 13, 12)
    ours = seeded(lambda: Gated(nn.Sigmoid(), True))
    check_pixels(ours, images, "last", Autograd(copy.deepcopy(ours), images))


class OverwrittenAfterMask(nn.Module):
    """Product of a map with a mask that was computed before the map was negated in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        mask = (x > 0).to(x.dtype)
        x.neg_()
        return self.last(x * mask)


def test_mask_of_a_map_that_is_overwritten_later_is_a_constant_gate() -> None:
    images = noise(2, 3, 13, 12)
    ours = seeded(OverwrittenAfterMask)
    found = check_pixels(ours, images, "last", Autograd(copy.deepcopy(ours), images))
    assert found.coverage.approximate


ALSO_RELU: dict[str, Function] = {
    "x * (1 + sign(x)) / 2": lambda x: x * (1 + torch.sign(x)) / 2,
    "x * heaviside(x, 0)": lambda x: x * torch.heaviside(x, x.new_zeros(())),
    "(x + abs(x)) / 2": lambda x: (x + x.abs()) / 2,
    "x - minimum(x, 0)": lambda x: x - torch.minimum(x, x.new_zeros(())),
    "0 - minimum(-x, 0)": lambda x: -torch.minimum(-x, x.new_zeros(())),
    "x * (x > 0) * (x > 0)": lambda x: x * (x > 0) * (x > 0),
}


@pytest.mark.parametrize("name", ALSO_RELU)
def test_other_spellings_of_relu_are_projected_as_relu_or_not_exact(name: str) -> None:
    images = noise(2, 3, 13, 12)
    ours, theirs = network(lambda: Calls(ALSO_RELU[name])), Autograd(network(nn.ReLU), images)
    coverage = wrapped(ours, images).record(images, "4").coverage("4")
    if not (coverage.approximate or coverage.unsupported):
        check_pixels(ours, images, "4", theirs)


UNLIKE: dict[str, Function] = {
    "maximum(x, 0.5)": lambda x: torch.maximum(x, x.new_full((), 0.5)),
    "maximum(x, a weight)": lambda x: torch.maximum(x, torch.linspace(-1, 1, 6, dtype=x.dtype).view(6, 1, 1)),
    "clamp(min=0.1)": lambda x: x.clamp(min=0.1),
    "clamp(min=tensor(-1))": lambda x: x.clamp(min=x.new_full((), -1.0)),
    "where(x > 0.5, x, 0)": lambda x: torch.where(x > 0.5, x, 0),
    "where(x > 0, 0, x)": lambda x: torch.where(x > 0, 0, x),
    "where(x > 0, x, -1)": lambda x: torch.where(x > 0, x, -1.0),
    "where(x > 0, x, x.exp() - 1)": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "where(x > 0, x, learned * x)": lambda x: torch.where(x > 0, x, x * torch.arange(6).view(6, 1, 1) / 8),
    "where(x > 0.01, x, 0)": lambda x: torch.where(x > 0.01, x, 0),
    "where(x > -0.05, x, 0)": lambda x: torch.where(x > -0.05, x, 0),
    "where(x < 50, relu(x), 0)": lambda x: torch.where(x < 50, x.relu(), 0),
    "x * (x > 0.5)": lambda x: x * (x > 0.5),
    "x * (x.abs() > 1)": lambda x: x * (x.abs() > 1),
    "x * (x < 0)": lambda x: x * (x < 0),
    "masked_fill(x < 0.2, 0)": lambda x: x.masked_fill(x < 0.2, 0),
    "masked_fill(x < 0, -1)": lambda x: x.masked_fill(x < 0, -1),
    "x[x < 0.1] = 0": lambda x: _set_to_zero(x, x < 0.1),
    "x / (1 + exp(-x))": lambda x: x / (1 + torch.exp(-x)),
    "x * special.ndtr(x)": lambda x: x * torch.special.ndtr(x),
    "x * tanh(log1p(exp(x)))": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
    "x * sigmoid(-x)": lambda x: x * torch.sigmoid(-x),
    "relu6(x + 2) / 6": lambda x: F.relu6(x + 2) / 6,
}  # fmt: skip


@pytest.mark.parametrize("name", UNLIKE)
def test_function_that_is_not_an_activation_is_never_exact(name: str) -> None:
    images = noise(1, 3, 13, 12)
    net = wrapped(network(lambda: Calls(UNLIKE[name])), images)
    for coverage in (net.coverage("4"), net.record(images, "4").coverage("4")):
        assert coverage.approximate or coverage.unsupported, coverage
