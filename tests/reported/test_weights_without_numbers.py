"""Parameters on the meta device have no numbers: such a network is not recorded."""

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

PHRASE = r"has parameters without numbers \(on the meta device\): "


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(5 * 36, 6, bias=False)),
    ).eval()


def third_part() -> tuple[nn.Module, str]:
    """The smallest input of fault 11."""
    module = convolutions()
    module[2].to("meta")
    return module, r"2\.weight, 2\.bias(?!, | and)"


def one_bias() -> tuple[nn.Module, str]:
    module = convolutions()
    module[2].bias = nn.Parameter(torch.empty(5, device="meta"))
    return module, r"2\.bias(?!, | and)"


def first_part() -> tuple[nn.Module, str]:
    """From which the type and the device of the pictures are taken."""
    module = convolutions()
    module[0].to("meta")
    return module, r"0\.weight, 0\.bias(?!, | and)"


def nested_part() -> tuple[nn.Module, str]:
    module = convolutions()
    module[5].to("meta")
    return module, r"5\.1\.weight(?!, | and)"


def statistics() -> tuple[nn.Module, str]:
    """A buffer alone."""
    module = convolutions()
    module[3].running_var = torch.empty(5, device="meta")
    return module, r"3\.running_var(?!, | and)"


def made_on_meta() -> tuple[nn.Module, str]:
    with torch.device("meta"):
        return convolutions(), r"0\.weight, 0\.bias"


def loaded_in_part() -> tuple[nn.Module, str]:
    """A network without numbers into which a file was read that has not all of them."""
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
    module, names = third_part()
    return module.train().requires_grad_(False), names


CASES: list[Callable[[], tuple[nn.Module, str]]] = [
    third_part,
    one_bias,
    first_part,
    nested_part,
    statistics,
    made_on_meta,
    loaded_in_part,
    whole_in_double,
    frozen_and_training,
]
ARRAY = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("given", [pictures(2), ARRAY], ids=["tensor", "picture"])
def test_network_with_parameters_without_numbers_is_not_recorded(
    make: Callable[[], tuple[nn.Module, str]], given: Any
) -> None:
    module, names = make()
    net = dv.Network(module, size=8, mean=(0, 0, 0), std=(1, 1, 1), name="mine")
    for layers in (["5"], ["2", "output"], "output"):
        with left_as_it_was(module), pytest.raises(NetworkError, match=f"^mine {PHRASE}{names}"):
            net.record(given, layers)


@pytest.mark.parametrize("make", CASES)
def test_network_with_parameters_without_numbers_is_neither_projected_nor_searched(
    make: Callable[[], tuple[nn.Module, str]],
) -> None:
    module, names = make()
    with pytest.raises(NetworkError, match=PHRASE + names):
        dv.project(wrapped(module), pictures(), "5", k=2)
    with pytest.raises(NetworkError, match=PHRASE + names):
        dv.search(wrapped(module), Noise(2), "5", workers=0)


@pytest.mark.parametrize("make", [made_on_meta, whole_in_double])
def test_network_all_on_the_meta_device_has_its_layers(make: Callable[[], tuple[nn.Module, str]]) -> None:
    """Shapes are enough for them."""
    module, _ = make()
    net = wrapped(module)
    with left_as_it_was(module):
        assert net.layers.to_json() == wrapped(convolutions()).layers.to_json()
        assert str(net.coverage()) == str(wrapped(convolutions()).coverage())
        assert net.class_index(5) == 5
        assert f"{sum(p.numel() for p in module.parameters()):,} parameters" in repr(net)


def test_network_that_got_its_numbers_later_is_recorded() -> None:
    module, _ = made_on_meta()
    net = wrapped(module)
    with pytest.raises(NetworkError, match=PHRASE):
        net.record(pictures(), "5")
    whole = convolutions()
    module.load_state_dict(whole.state_dict(), assign=True)
    activations = net.record(pictures(), "5").activations("5")
    assert torch.equal(activations, whole(pictures()).detach())


def test_network_that_lost_its_numbers_is_not_recorded_any_more() -> None:
    module = convolutions()
    net = wrapped(module)
    assert len(net.record(pictures(), "5")) == 1
    module[2].to("meta")
    with pytest.raises(NetworkError, match=PHRASE + r"2\.weight, 2\.bias(?!, | and)"):
        net.record(pictures(), "5")


def test_tied_weight_without_numbers_is_named() -> None:
    module = convolutions()
    module.append(nn.Linear(6, 6))
    module.append(nn.Linear(6, 6, bias=False))
    module[6].to("meta")
    module[7].weight = module[6].weight
    with pytest.raises(NetworkError, match=PHRASE + r"6\.weight, 6\.bias"):
        wrapped(module).record(pictures(), "output")


class Lending(nn.Module):
    """Its numbers are on the meta device only as long as nobody needs them; they are of no part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.shape_of = torch.empty(2, 3, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y * self.shape_of.shape[0]


def test_plain_attribute_without_numbers_is_no_parameter() -> None:
    module = Lending()
    activations = wrapped(module).record(pictures(), "output").activations("output")
    assert torch.equal(activations, module(pictures()).detach())
