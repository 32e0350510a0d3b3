"""The interface and registry of methods, the recorded subject, and the methods of our own engine."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from helpers.oracles import Autograd, difference
from helpers.snapshots import pictures, wrapped
from torch import nn

import deconvviz as dv
from deconvviz.errors import DeconvvizError, ImageError, LayerError, MethodError
from deconvviz.methods.method import DEFAULT_METHODS, METHODS, Subject, method

OWN = ["deconvnet", "guided", "gradient", "input_x_gradient"]


def network() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
    ).double()


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.record(wrapped(network(), 12), pictures(1, 12, dtype=torch.float64), "4", OWN)


def test_methods_are_in_the_order_of_columns() -> None:
    captum = ["integrated_gradients", "gradient_shap", "smoothgrad", "occlusion", "gradcam", "lrp"]
    assert list(METHODS) == [*OWN, "contribution", "contrast", *captum] and len(METHODS) == 12
    assert DEFAULT_METHODS == ("deconvnet", "guided", "gradient", "contribution", "contrast")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_describes_itself(name: str) -> None:
    one = method(name)
    assert one.name == name and one.title and one.source and one.cost(3)
    assert method(name) is one


def test_unknown_method_names_all_methods() -> None:
    with pytest.raises(
        MethodError, match=r"^no method 'gradiant': there are deconvnet, .*, lrp\. Did you mean gradient\?$"
    ):
        method("gradiant")
    assert issubclass(MethodError, DeconvvizError)
    with pytest.raises(MethodError, match="no method 'x'"):
        Subject.record(wrapped(network(), 12), pictures(1, 12), "4", ["x"])


@pytest.mark.slow
def test_names_of_methods_are_known_without_torch() -> None:
    code = (
        "import sys; from deconvviz.methods.method import METHODS, check_method; list(METHODS); "
        "check_method('lrp'); print(sorted({'torch', 'captum', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_subject_holds_one_image_and_one_layer(subject: Subject) -> None:
    assert subject.inputs.shape == (1, 3, 12, 12)
    assert subject.activations().shape == (1, 8, 6, 6)
    assert subject.layer.module == "4" and subject.explained_class is None
    with pytest.raises(ImageError, match=r"^methods explain one image at a time, but 2 were given$"):
        Subject.record(wrapped(network(), 12), pictures(2, 12), "4")
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        Subject.record(wrapped(network(), 12), pictures(1, 12), "conv9")


def test_gradient_is_the_activation_times_autograd(subject: Subject) -> None:
    units = subject.recording.strongest("4", 3)
    maps = method("gradient").maps(subject, units)
    module = network()
    for one, unit in zip(maps, units, strict=True):
        image = subject.inputs.clone().requires_grad_()
        activation = module(image)[0, unit.channel, unit.y, unit.x]
        (slopes,) = torch.autograd.grad(activation, image)
        expected = (activation * slopes)[0].detach()
        assert difference(one.double(), expected) < 1e-6


def test_deconvnet_equals_the_oracle(subject: Subject) -> None:
    (unit,) = subject.recording.strongest("4", 1)
    oracle = Autograd(network().eval(), subject.inputs)
    expected = oracle.unit("4", 0, unit.channel, unit.y, unit.x)
    assert difference(method("deconvnet").maps(subject, [unit])[0].double(), expected) < 1e-6


@pytest.mark.parametrize("name", OWN)
def test_own_maps_are_linear_in_positive_factors_of_the_signal(name: str, subject: Subject) -> None:
    signal = torch.zeros(1, 8, 6, 6, dtype=torch.float64)
    signal[0, 6, 3, 4] = 1.0  # an active unit: the gradient of others is zero
    one = method(name).maps(subject, signal)
    assert one.any() and difference(method(name).maps(subject, 2.5 * signal), 2.5 * one) < 1e-6


@pytest.mark.parametrize("name", ["gradient", "input_x_gradient"])
def test_maps_of_gradients_add_up(name: str, subject: Subject) -> None:
    random = torch.Generator().manual_seed(2)
    one, other = (torch.randn(1, 8, 6, 6, generator=random, dtype=torch.float64) for _ in range(2))
    maps = [method(name).maps(subject, signal) for signal in (one, other, one + other)]
    assert difference(maps[0] + maps[1], maps[2]) < 1e-5


@pytest.mark.parametrize("name", OWN)
def test_map_of_a_unit_is_that_of_its_activation_as_the_signal(name: str, subject: Subject) -> None:
    (unit,) = subject.recording.strongest("4", 1)
    signal = torch.zeros(1, 8, 6, 6, dtype=torch.float64)
    signal[0, unit.channel, unit.y, unit.x] = unit.activation
    reports: list[tuple[int, int]] = []
    found = method(name).maps(subject, [unit], lambda done, total: reports.append((done, total)))
    assert torch.equal(found, method(name).maps(subject, signal)) and reports == [(1, 1)]
    assert found.dtype == torch.float32 and found.device.type == "cpu"


def test_a_subject_recorded_without_a_method_says_so() -> None:
    found = Subject.record(wrapped(network(), 12), pictures(1, 12), "4", ["deconvnet"])
    with pytest.raises(MethodError, match="guided was not recorded"):
        method("guided").maps(found, [dv.Unit(0, 1, 2, 2)])
