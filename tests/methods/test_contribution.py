"""`contribution` and `contrast`, compared to autograd, and what their sums mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import difference
from helpers.snapshots import pictures, snapshot, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import MethodError, UnitError
from deconvviz.methods.blur import blurred
from deconvviz.methods.method import Subject, method

pytestmark = pytest.mark.slow  # together half a minute

BOTH = ("contribution", "contrast")


class Block(nn.Module):
    """Residual block with batch norm and one ReLU that is used twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.two = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        below = self.relu(self.norm_one(self.one(x)))
        return self.relu(x + self.norm_two(self.two(below)))


def residual() -> nn.Sequential:
    torch.manual_seed(6)
    start = [nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    network = nn.Sequential(*start, Block(8), Block(8)).double().eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.2, 0.2)
    return network


def minivgg() -> nn.Module:
    return dv.load("minivgg").module.double().eval()


def subject_of(module: nn.Module, layer: str, side: int) -> Subject:
    return Subject.record(wrapped(module, side), pictures(1, side, dtype=torch.float64), layer, BOTH)


def blurred_by_hand(image: Tensor) -> Tensor:
    """Blur (C, H, W) with a Gaussian of 4 deviations whose border repeats the last pixel."""
    deviation = max(1.0, min(image.shape[1:]) / 16)
    radius = math.floor(4 * deviation + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    found = image.numpy()
    for axis in (1, 2):
        padded = np.pad(found, [(radius, radius) if axis == n else (0, 0) for n in range(3)], mode="edge")
        found = np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="valid"), axis, padded)
    return torch.from_numpy(found)


def contribution_by_autograd(module: nn.Module, layer: str, image: Tensor, place: tuple[int, ...]) -> Tensor:
    """Return the contribution to a unit, (C, H, W), for a picture (1, C, H, W)."""
    soft = blurred_by_hand(image[0])
    detail = image[0] - soft
    total = torch.zeros_like(detail)
    for share in (1 / 3, 2 / 3, 1):
        plain = PlainAutograd(module, (soft + share * detail)[None], [layer])
        signal = torch.zeros_like(plain.outputs[layer])
        signal[(0, *place)] = 1
        total += plain.project(layer, signal)[0] * detail / 3
    guided = PlainAutograd(module, image, [layer], Guided())
    signal = torch.zeros_like(guided.outputs[layer])
    activation = guided.outputs[layer].detach()[(0, *place)]
    signal[(0, *place)] = activation
    noisy = guided.project(layer, signal)[0] * detail
    return (total + noisy * activation.abs() / noisy.abs().sum()) / 2


CASES = [(minivgg, "features.12", 96), (residual, "5", 40)]


@pytest.mark.parametrize(("build", "layer", "side"), CASES, ids=["minivgg", "residual"])
def test_contribution_equals_autograd(build: object, layer: str, side: int) -> None:
    subject = subject_of(build(), layer, side)  # type: ignore[operator]
    units = subject.recording.strongest(layer, 2)
    found = method("contribution").maps(subject, units)
    assert found.shape == (2, 3, side, side) and found.dtype == torch.float64
    for one, unit in zip(found, units, strict=True):
        place = (unit.channel, unit.y, unit.x)
        expected = contribution_by_autograd(build(), layer, subject.inputs, place)  # type: ignore[operator]
        assert difference(one, expected) < 1e-8


@pytest.mark.parametrize(("build", "layer", "side"), CASES, ids=["minivgg", "residual"])
def test_contrast_equals_autograd(build: object, layer: str, side: int) -> None:
    module: nn.Module = build()  # type: ignore[operator]
    subject = subject_of(module, layer, side)
    unit = subject.recording.strongest(layer, 1)[0]
    here = subject.activations()[0, :, unit.y, unit.x]
    others = [n for n in here.argsort(descending=True).tolist() if n != unit.channel and here[n] > 0][:5]
    assert len(others) > 1

    def relative(channel: int) -> Tensor:
        place = (channel, unit.y, unit.x)
        return contribution_by_autograd(module, layer, subject.inputs, place) / here[channel]

    mean = sum(relative(channel) for channel in others) / len(others)
    expected = here[unit.channel] * (relative(unit.channel) - mean)
    assert difference(method("contrast").maps(subject, [unit])[0], expected) < 1e-8


def test_blur_equals_a_convolution_by_hand() -> None:
    image = pictures(1, 40, dtype=torch.float64)[:, :, :, :33]
    assert difference(blurred(image)[0], blurred_by_hand(image[0])) < 1e-10


def test_contributions_to_a_linear_unit_are_exact_up_to_a_factor() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3)).double()
    subject = subject_of(module, "2", 24)
    for unit in subject.recording.strongest("2", 3):
        inputs = subject.inputs.clone().requires_grad_()
        (weights,) = torch.autograd.grad(module(inputs)[0, unit.channel, unit.y, unit.x], inputs)
        exact = (weights * (subject.inputs - blurred(subject.inputs)))[0]
        factor = (1 + abs(unit.activation) / float(exact.abs().sum())) / 2
        assert difference(method("contribution").maps(subject, [unit])[0], factor * exact) < 1e-10


def test_contributions_of_scenes_nearly_add_up_to_the_fall_to_the_blurred_picture() -> None:
    from deconvviz.scenes import scene

    net = dv.load("minivgg")
    apart = []
    for seed in range(2):
        subject = Subject.record(net, scene(seed).image, "conv3_2", BOTH)
        units = subject.recording.strongest("conv3_2", 4)
        soft = net.record(blurred(subject.inputs), "conv3_2").activations("conv3_2")[0]
        sums = method("contribution").maps(subject, units).sum((1, 2, 3)).tolist()
        for total, unit in zip(sums, units, strict=True):
            fall = unit.activation - float(soft[unit.channel, unit.y, unit.x])
            apart.append(abs(total - fall) / fall)
    assert np.median(apart) < 0.2 and max(apart) < 0.6


def test_a_unit_that_is_silent_in_a_picture_with_less_detail_has_a_contribution() -> None:
    """Gradients start from a signal of 1, because an activation of 0 would lose them."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1)).double()
    module.eval()
    image = pictures(1, 16, dtype=torch.float64)
    soft, detail = blurred(image), image - blurred(image)
    with torch.no_grad():  # move the bias so that the unit is exactly zero at one third of the detail
        module[2].bias[0] -= module(soft + detail / 3)[0, 0, 8, 8]
    subject = Subject.record(wrapped(module, 16), image, "2", BOTH)
    unit = dv.Unit(0, 0, 8, 8)
    expected = contribution_by_autograd(module, "2", image, (0, 8, 8))
    assert difference(method("contribution").maps(subject, [unit])[0], expected) < 1e-8


def test_contrast_without_other_units_is_the_contribution() -> None:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1)).double()
    subject = subject_of(module, "2", 12)
    units = subject.recording.strongest("2", 1)
    assert torch.equal(*(method(name).maps(subject, units) for name in BOTH))


def test_contrasts_of_the_strongest_units_of_a_place_cancel() -> None:
    """The contrasts of all six units, each relative to its activation, add up to zero."""
    subject = subject_of(residual(), "5", 40)
    first = subject.recording.strongest("5", 1)[0]
    here = subject.activations()[0, :, first.y, first.x]
    channels = here.argsort(descending=True)[:6].tolist()
    assert float(here[channels[-1]]) > 0
    units = [dv.Unit(0, channel, first.y, first.x) for channel in channels]
    maps = method("contrast").maps(subject, units) / here[channels].view(-1, 1, 1, 1)
    assert float(maps.sum(0).abs().max()) < 1e-11 * float(maps.abs().max())


def test_maps_do_not_depend_on_the_other_units_that_are_asked_for() -> None:
    subject = subject_of(residual(), "5", 40)
    units = subject.recording.strongest("5", 3)
    for name in BOTH:
        together = method(name).maps(subject, units)
        for one, unit in zip(together, units, strict=True):
            assert difference(method(name).maps(subject, [unit])[0], one) < 1e-10


def test_signals_are_projected_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvviz.methods import contribution

    subject = subject_of(residual(), "5", 40)
    units = subject.recording.strongest("5", 5)
    whole = method("contribution").maps(subject, units)
    monkeypatch.setattr(contribution, "_SIGNAL_BYTES", 2 * subject.activations().numel() * 8)
    assert difference(method("contribution").maps(subject, units), whole) < 1e-12


def test_units_of_a_fully_connected_layer_have_contributions() -> None:
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, 6)).double().eval()
    subject = subject_of(module, "3", 12)
    units = subject.recording.strongest("3", 2)
    found = method("contribution").maps(subject, units)
    for one, unit in zip(found, units, strict=True):
        expected = contribution_by_autograd(module, "3", subject.inputs, (unit.channel,))
        assert difference(one, expected) < 1e-8
    assert method("contrast").maps(subject, units).shape == (2, 3, 12, 12)


def test_progress_is_reported_and_the_network_is_left_as_it_was() -> None:
    module = residual()
    subject = subject_of(module, "5", 40)
    before = snapshot(module)
    steps: list[tuple[int, int]] = []
    method("contrast").maps(
        subject, subject.recording.strongest("5", 2), lambda done, of: steps.append((done, of))
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert snapshot(module) == before


@pytest.mark.parametrize("name", BOTH)
def test_maps_of_single_precision_are_single_precision(name: str) -> None:
    subject = Subject.record(wrapped(residual().float(), 40), pictures(1, 40), "5", [name])
    found = method(name).maps(subject, subject.recording.strongest("5", 1))
    assert found.dtype == torch.float32 and found.any()


@pytest.mark.parametrize("name", BOTH)
def test_signals_whole_channels_and_missing_recordings_raise_clear_errors(name: str) -> None:
    subject = subject_of(residual(), "5", 40)
    with pytest.raises(MethodError, match="not a tensor of signals"):
        method(name).maps(subject, torch.zeros_like(subject.activations()))
    with pytest.raises(UnitError, match="needs a position"):
        method(name).maps(subject, [dv.Unit(0, 1)])
    plain = Subject.record(wrapped(residual(), 40), pictures(1, 40, dtype=torch.float64), "5")
    with pytest.raises(MethodError, match="not recorded"):
        method(name).maps(plain, plain.recording.strongest("5", 1))


@pytest.mark.parametrize("name", BOTH)
def test_an_unsupported_operation_is_named(name: str) -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sort(dim=1).values

    module = nn.Sequential(nn.Conv2d(3, 4, 3), Sorted(), nn.Conv2d(4, 4, 3)).double()
    subject = subject_of(module, "2", 12)
    assert "sort is unsupported" in method(name).unsupported(subject)
    assert method(name).unsupported(subject_of(residual(), "5", 40)) == ""


def test_contributions_are_signed_maps_that_cost_three_recorded_passes() -> None:
    for name in BOTH:
        one = method(name)
        assert one.signed and not one.takes_signals and one.cost(2).startswith("3 recorded passes")
