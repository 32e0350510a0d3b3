"""Parameters on the meta device have no values: recording such a network raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.snapshots import Noise, left_as_it_was, pictures, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import NetworkError

PHRASE = r"has parameters without values \(on the meta device\): "


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(5 * 36, 6, bias=False)),
    ).eval()


def third_module() -> tuple[nn.Module, str]:
    """The minimal reproduction of the reported bug."""
    module = convolutions()
    module[2].to("meta")
    return module, r"2\.weight, 2\.bias(?!, | and)"


def one_bias() -> tuple[nn.Module, str]:
    module = convolutions()
    module[2].bias = nn.Parameter(torch.empty(5, device="meta"))
    return module, r"2\.bias(?!, | and)"


def first_module() -> tuple[nn.Module, str]:
    """The module whose dtype and device are used for the images."""
    module = convolutions()
    module[0].to("meta")
    return module, r"0\.weight, 0\.bias(?!, | and)"


def nested_module() -> tuple[nn.Module, str]:
    module = convolutions()
    module[5].to("meta")
    return module, r"5\.1\.weight(?!, | and)"


def one_buffer() -> tuple[nn.Module, str]:
    module = convolutions()
    module[3].running_var = torch.empty(5, device="meta")
    return module, r"3\.running_var(?!, | and)"


def made_on_meta() -> tuple[nn.Module, str]:
    with torch.device("meta"):
        return convolutions(), r"0\.weight, 0\.bias"


def partly_loaded() -> tuple[nn.Module, str]:
    """A network on the meta device after loading an incomplete state dict."""
    module, _ = made_on_meta()
    state = convolutions().state_dict()
    for name in ("2.bias", "3.running_mean"):
        del state[name]
    module.load_state_dict(state, strict=False, assign=True)
    return module, r"2\.bias, 3\.running_mean(?!, | and)"


def whole_in_double() -> tuple[nn.Module, str]:
    module, names = made_on_meta()
    return module.double(), names


def frozen_and_training() -> tuple[nn.Module, str]:
    module, names = third_module()
    return module.train().requires_grad_(False), names


CASES: list[Callable[[], tuple[nn.Module, str]]] = [
    third_module,
    one_bias,
    first_module,
    nested_module,
    one_buffer,
    made_on_meta,
    partly_loaded,
    whole_in_double,
    frozen_and_training,
]
ARRAY = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("given", [pictures(2), ARRAY], ids=["tensor", "image"])
def test_recording_a_network_with_meta_parameters_raises(
    make: Callable[[], tuple[nn.Module, str]], given: Any
) -> None:
    module, names = make()
    net = dv.Network(module, size=8, mean=(0, 0, 0), std=(1, 1, 1), name="mine")
    for layers in (["5"], ["2", "output"], "output"):
        with left_as_it_was(module), pytest.raises(NetworkError, match=f"^mine {PHRASE}{names}"):
            net.record(given, layers)


@pytest.mark.parametrize("make", CASES)
def test_projecting_or_searching_a_network_with_meta_parameters_raises(
    make: Callable[[], tuple[nn.Module, str]],
) -> None:
    module, names = make()
    with pytest.raises(NetworkError, match=PHRASE + names):
        dv.project(wrapped(module), pictures(), "5", k=2)
    with pytest.raises(NetworkError, match=PHRASE + names):
        dv.search(wrapped(module), Noise(2), "5", workers=0)


@pytest.mark.parametrize("make", [made_on_meta, whole_in_double])
def test_layers_of_a_network_on_the_meta_device_are_listed(make: Callable[[], tuple[nn.Module, str]]) -> None:
    """Listing layers needs shapes only."""
    module, _ = make()
    net = wrapped(module)
    with left_as_it_was(module):
        assert net.layers.to_json() == wrapped(convolutions()).layers.to_json()
        assert str(net.coverage()) == str(wrapped(convolutions()).coverage())
        assert net.class_index(5) == 5
        assert f"{sum(p.numel() for p in module.parameters()):,} parameters" in repr(net)


def test_network_on_the_meta_device_can_be_recorded_after_loading_weights() -> None:
    module, _ = made_on_meta()
    net = wrapped(module)
    with pytest.raises(NetworkError, match=PHRASE):
        net.record(pictures(), "5")
    whole = convolutions()
    module.load_state_dict(whole.state_dict(), assign=True)
    activations = net.record(pictures(), "5").activations("5")
    assert torch.equal(activations, whole(pictures()).detach())


def test_recording_raises_after_a_module_was_moved_to_the_meta_device() -> None:
    module = convolutions()
    net = wrapped(module)
    assert len(net.record(pictures(), "5")) == 1
    module[2].to("meta")
    with pytest.raises(NetworkError, match=PHRASE + r"2\.weight, 2\.bias(?!, | and)"):
        net.record(pictures(), "5")


def test_message_states_a_tied_weight_on_the_meta_device() -> None:
    module = convolutions()
    module.append(nn.Linear(6, 6))
    module.append(nn.Linear(6, 6, bias=False))
    module[6].to("meta")
    module[7].weight = module[6].weight
    with pytest.raises(NetworkError, match=PHRASE + r"6\.weight, 6\.bias"):
        wrapped(module).record(pictures(), "output")


class MetaAttribute(nn.Module):
    """Module with a tensor on the meta device that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.shape_of = torch.empty(2, 3, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y * self.shape_of.shape[0]


def test_attribute_on_the_meta_device_is_accepted() -> None:
    module = MetaAttribute()
    activations = wrapped(module).record(pictures(), "output").activations("output")
    assert torch.equal(activations, module(pictures()).detach())
