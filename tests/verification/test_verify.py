"""`deconvviz.verify`: routes, differences that are found, networks that are not known, nothing changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.asking import noise, seeded, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.rules import registry
from deconvviz.engine.rules.activation import ReLU
from deconvviz.errors import MethodError, StaleRecording, UnitError, VerificationError
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together half a minute

METHODS = ("deconvnet", "guided", "gradient", "input_x_gradient")
aten = torch.ops.aten


class Fire(nn.Module):
    """Block of SqueezeNet: ReLU modules, each called once, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.first, self.second, self.third = (nn.ReLU(inplace=True) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.squeeze(x))
        return torch.cat([self.second(self.left(x)), self.third(self.right(x))], 1)


class Functional(nn.Module):
    """ReLU as a function, a reused module, and a ReLU composed of two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3 if n == 0 else 8, 8, 3, 1, 1) for n in range(4))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.convolutions
        x = F.relu(first(x))
        x = x + self.relu(second(x))
        x = self.relu(third(F.max_pool2d(x, 3, 2)))
        x = fourth(x)
        return x * (x > 0)


class Gated(nn.Module):
    """Squeeze and excitation: a map times a gate that is computed from it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.gate = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(8, 8, 1)
        self.silu, self.norm = nn.SiLU(inplace=True), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.silu(self.norm(self.first(x)))
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return F.relu(self.last(x))


class SharedInput(nn.Module):
    """Residual block as in Xception, whose shortcut reads what a ReLU reads, or what it has overwritten."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.stem, self.shortcut = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1)
        self.branch = nn.Sequential(nn.ReLU(inplace=inplace), nn.Conv2d(8, 6, 3, 1, 1))
        self.last = nn.Conv2d(6, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.branch(x) + self.shortcut(x))


def squeezing() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(), Fire()
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "SqueezeNet": (squeezing, "4", "captum"),
    "functional": (Functional, "", "autograd"),
    "shared input": (lambda: SharedInput(inplace=False), "last", "captum"),
    "shared input, overwritten": (lambda: SharedInput(inplace=True), "last", "autograd"),
    "reused module": (Functional, "relu:2", "autograd"),
    "squeeze and excitation": (Gated, "", "autograd"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_projections_are_confirmed(name: str, method: str) -> None:
    build, layer, route = NETWORKS[name]
    net, images = wrapped(seeded(build), image := noise(1, 3, 20, 18)), image
    layer = layer or net.layers.last.name
    recording = net.record(images, layer, methods=METHODS)
    projection = recording.project(layer, recording.strongest(layer, 3), method=method)
    assert projection.pixels.any()
    found = dv.verify(net, projection)
    assert found.route == route
    assert found.units == 3 and found.passed
    assert found.largest_difference < 1e-12


def test_confirmed_projection_of_float32_differs_only_by_rounding() -> None:
    net = dv.load("minivgg")
    recording = net.record(scene(3).image, "conv4_2")
    found = dv.verify(net, recording.project("conv4_2", recording.strongest("conv4_2", 3)))
    assert found.route == "captum" and found.allowed == 1e-4
    assert 0 < found.largest_difference < 1e-5


def _units(recording: dv.Recording, layer: str) -> list[dv.Unit]:
    """Return units of two images: corners, a whole channel, and one that is negative."""
    values = recording.activations(layer)
    image, channel, y, x = (int(n) for n in torch.unravel_index(values.argmin(), values.shape))
    rows, columns = values.shape[2:]
    return [
        dv.Unit(0, 0, 0, 0),
        dv.Unit(1, 2, rows - 1, columns - 1),
        dv.Unit(1, 3),
        dv.Unit(image, channel, y, x),
        dv.Unit(0, 1, 2, 0),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_units_of_several_images_whole_channels_and_negative_units_are_confirmed(method: str) -> None:
    build = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3))
    net, images = wrapped(seeded(lambda: build), both := noise(2, 3, 17, 15)), both
    recording = net.record(images, "3", methods=METHODS)
    units = _units(recording, "3")
    steps: list[tuple[int, int]] = []
    found = dv.verify(
        net, recording.project("3", units, method=method), report=lambda *step: steps.append(step)
    )
    assert found.route == "autograd" and found.largest_difference < 1e-12
    assert steps == [(n, 5) for n in range(1, 6)]


class OverwrittenSum(nn.Module):
    """Convolutions with a sum that is written into the output of the second one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.relu, self.conv = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        found: Tensor = self.conv(x)
        found += x
        return found


def test_captum_does_not_see_later_writes_into_the_layer() -> None:
    net = dv.Network(OverwrittenSum(), size=8)
    recording = net.record(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), ["conv"])
    found = dv.verify(net, recording.project("conv", recording.strongest("conv", 3)))
    assert found.route == "captum" and found.passed


def test_negative_unit_of_one_image_is_not_left_to_captum() -> None:
    net = wrapped(
        seeded(lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3))), noise(1, 3, 9, 9)
    )
    recording = net.record(noise(1, 3, 9, 9), "2")
    values = recording.activations("2")
    units = [
        dv.Unit(*(int(n) for n in torch.unravel_index(pick, values.shape)))
        for pick in (values.argmin(), values.argmax())
    ]
    found = dv.verify(net, recording.project("2", units))
    assert found.route == "autograd" and found.largest_difference < 1e-12
    assert dv.verify(net, recording.project("2", units[1:])).route == "captum"


def test_vectors_and_class_scores_are_confirmed() -> None:
    net = dv.load("minivgg")
    recording = net.record(scene(5).image, ["fc5", "output"])
    for layer, route in (("fc5", "captum"), ("output", "autograd")):
        found = dv.verify(net, recording.project(layer, recording.strongest(layer, 2)))
        assert found.route == route and found.passed


@pytest.fixture
def rules() -> Iterator[None]:
    """Restore all rules after a test that registers one."""
    before = dict(registry._registry)
    yield
    registry._registry.clear()
    registry._registry.update(before)


class NotRectified(ReLU):
    """A wrong rule: the gradient of the identity."""

    def project(self, signal: Tensor, window: Any, input_windows: Sequence[Any]) -> Sequence[Tensor | None]:
        return [signal]


class SlightlyWrong(ReLU):
    """A rule that is wrong by one part in a thousand."""

    def project(self, signal: Tensor, window: Any, input_windows: Sequence[Any]) -> Sequence[Tensor | None]:
        return [signal.clamp_min(0) * torch.linspace(1, 1.001, signal.shape[1])[:, None, None]]


@pytest.mark.parametrize("wrong", [NotRectified, SlightlyWrong])
@pytest.mark.parametrize("name", ["minivgg", "functional"])
def test_wrong_rule_is_found(name: str, wrong: type[ReLU], rules: None) -> None:
    dv.rule(aten.relu.default, aten.relu_.default)(wrong)
    if name == "minivgg":
        net, images, layer = dv.load("minivgg"), scene(3).image, "conv2_2"
    else:
        network, images = seeded(Functional), noise(1, 3, 20, 18)
        net, layer = wrapped(network, images), "relu:2"
    recording = net.record(images, layer)
    found = dv.verify(net, recording.project(layer, recording.strongest(layer, 3)))
    assert not found.passed
    assert found.largest_difference > 1e-4


def test_changed_pixels_are_found() -> None:
    net = dv.load("minivgg")
    recording = net.record(scene(3).image, "conv2_2")
    projection = recording.project("conv2_2", recording.strongest("conv2_2", 3))
    projection.pixels[1] *= 1.01
    found = dv.verify(net, projection)
    assert found.worst == 1 and found.largest_difference == pytest.approx(0.01, rel=0.01)


_gate = torch.jit.CompilationUnit("def gate(x):\n    return x.sigmoid()\n").gate
_relu = torch.jit.CompilationUnit("def relu(x):\n    return x.relu()\n").relu


class Straight(torch.autograd.Function):
    """A custom function whose gradient is not that of its value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        return signals[0]


class Raising(nn.Module):
    """Module that raises if gradients are enabled."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise ValueError("no gradients")
        return x


UNKNOWN: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "gate in a jit script": (
        lambda x: x * _gate(x.flip(1)),
        "deconvnet",
        "no second implementation of SigmoidBackward0",
    ),
    "ReLU in a jit script": (_relu, "guided", "a call of ReluBackward0 cannot be replaced"),
    "custom function": (Straight.apply, "gradient", "no second implementation of StraightBackward"),
    "error in forward": (Raising(), "deconvnet", "failed with ValueError: no gradients"),
}


class Between(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize("name", UNKNOWN)
def test_network_that_is_not_known_raises_an_error_that_names_the_operation(name: str) -> None:
    function, method, reason = UNKNOWN[name]
    net = wrapped(seeded(lambda: Between(function)), images := noise(1, 3, 12, 12))
    recording = net.record(images, "last", methods=METHODS)
    projection = recording.project("last", recording.strongest("last", 2), method=method)
    with pytest.raises(VerificationError) as raised:
        dv.verify(net, projection)
    message = str(raised.value)
    assert message.startswith("the projections of last in Between cannot be verified: ")
    assert reason in message
    assert "Leave out --verify" in raised.value.on_command_line()


@pytest.mark.parametrize("name", ["SqueezeNet", "functional"])
def test_network_is_left_as_it_was(name: str) -> None:
    build, layer, _ = NETWORKS[name]
    network, images = seeded(build), noise(1, 3, 20, 18)
    network.train()
    frozen = next(network.parameters())
    frozen.requires_grad_(False)
    calls: list[nn.Module] = []
    handle = network.register_forward_hook(lambda part, args, output: calls.append(part))
    net = wrapped(network, images)
    layer = layer or net.layers.last.name
    recording = net.record(images, layer)
    projection = recording.project(layer, recording.strongest(layer, 2))
    flags = [
        (part.training, getattr(part, "inplace", None), dict(part._forward_hooks))
        for part in network.modules()
    ]
    weights = copy.deepcopy(network.state_dict())
    needs = [(p.requires_grad, p.grad, p._version) for p in network.parameters()]
    assert dv.verify(net, projection).passed
    assert [
        (part.training, getattr(part, "inplace", None), dict(part._forward_hooks))
        for part in network.modules()
    ] == flags
    assert [(p.requires_grad, p.grad, p._version) for p in network.parameters()] == needs
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    assert not any(part._backward_hooks or part._backward_pre_hooks for part in network.modules())
    handle.remove()


def test_result_is_kept_in_the_description_and_holds_no_network() -> None:
    net = dv.load("minivgg")
    recording = net.record(scene(3).image, "conv2_1")
    projection = recording.project("conv2_1", recording.strongest("conv2_1", 2))
    assert projection.describe()["verification"] is None
    found = dv.verify(net, projection)
    verified = replace(projection, verification=found)
    assert verified.describe()["verification"] == {
        "route": "captum", "largest_difference": found.largest_difference, "units": 2,
    }  # fmt: skip
    assert verified[0].verification is None


def test_what_cannot_be_verified_raises() -> None:
    net = dv.load("minivgg")
    recording = net.record(scene(3).image, "conv2_1")
    projection = recording.project("conv2_1", recording.strongest("conv2_1", 2))
    with pytest.raises(UnitError, match="projections of tensors cannot be verified"):
        dv.verify(net, recording.project("conv2_1", recording.activations("conv2_1")))
    with pytest.raises(MethodError, match="lrp cannot be verified: only deconvnet, guided"):
        dv.verify(net, replace(projection, method="lrp"))
    other = dv.load("minivgg", weights="random")
    with pytest.raises(StaleRecording, match="the weights of minivgg are not those of the projection"):
        dv.verify(other, projection)
