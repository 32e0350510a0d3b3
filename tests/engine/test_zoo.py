"""Every convolutional network of torchvision, and each family of timm: the mirror against the oracle.

Random weights in float64, small pictures, units of a shallow, a middle and a deep layer, and class scores.
A network is within 1e-8 of the oracle everywhere, or stands in REFUSED with the operations that stop it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch
from helpers import passes, zoo
from helpers.oracles import Autograd, difference
from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp
from deconvviz.loading import sketch

EXACT = 1e-8

REFUSED = {
    # filters that are mixed for each picture: a batch becomes groups of one picture
    "timm:tf_efficientnet_cc_b0_4e": "aten.view",
    # a product of matrices that are cut out of each other
    "timm:bat_resnext26ts": "aten.view",
    # a cosine transform by indexed frequencies
    "timm:csatv2": "aten.index",
}
"""network: the operation that has no mirror."""

NETWORKS = [*zoo.TORCHVISION, *zoo.SEGMENTATION, *(f"timm:{name}" for name in zoo.TIMM)]

QUICK = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v3_small", "resnet18",
    "timm:test_efficientnet_ln", "timm:test_nfnet", "timm:test_coatnet", "timm:test_maxvit",
)  # fmt: skip
"""tested every day."""

NIGHTLY = {
    **dict.fromkeys(("vgg13", "vgg16"), "vgg11"),
    **dict.fromkeys(("vgg13_bn", "vgg16_bn", "vgg19_bn"), "vgg11_bn"),
    **dict.fromkeys(("resnet101", "resnet152"), "resnet50"),
    **dict.fromkeys(("resnext101_32x8d", "resnext101_64x4d"), "resnext50_32x4d"),
    "wide_resnet101_2": "wide_resnet50_2",
    **dict.fromkeys(("densenet161", "densenet169", "densenet201"), "densenet121"),
    **dict.fromkeys(("regnet_x_8gf", "regnet_x_16gf", "regnet_x_32gf"), "regnet_x_400mf"),
    **dict.fromkeys(("regnet_y_8gf", "regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf"), "regnet_y_400mf"),
    **dict.fromkeys(
        ("efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7"), "efficientnet_b0"
    ),
    **dict.fromkeys(("efficientnet_v2_m", "efficientnet_v2_l"), "efficientnet_v2_s"),
    **dict.fromkeys(("convnext_small", "convnext_base", "convnext_large"), "convnext_tiny"),
}
"""large network: the smaller one of its family that covers it, and has the same operations (tested below)."""


def _in_its_tier(name: str) -> Any:
    if name in NIGHTLY:
        return pytest.param(name, marks=pytest.mark.nightly)
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [_in_its_tier(name) for name in NETWORKS])
def test_units_at_several_depths(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network, pictures = zoo.build(name), zoo.pictures(name)
    ours = passes.run(network, pictures)
    layers = zoo.depths(ours)
    assert len(layers) >= 3
    theirs = Autograd(network, pictures, layers)
    alive, refused = 0, set()
    for layer in layers:
        said, units = ours.said[layer], _units(ours.said[layer])
        assert difference(ours.laid_out(layer, said), theirs.outputs[layer].detach()) <= EXACT
        try:
            pixels, _ = ours.units(layer, units)
        except RefusedOp as refusal:
            refused.add(_operation(refusal))
            continue
        want = theirs.project(layer, ours.laid_out(layer, _signal(said, units)))
        for one, unit in zip(pixels, units, strict=True):
            assert difference(one, want[unit.image]) <= EXACT, (layer, unit)
            alive += bool(want[unit.image].any())
    assert refused == ({REFUSED[name]} if name in REFUSED else set())
    assert alive >= (0 if refused else 2 * len(layers) - 2)  # a comparison of zeros with zeros is none


def _units(said: Tensor) -> list[Unit]:
    """Of the first picture one at the border, of the second the strongest."""
    strongest = [int(n) for n in torch.unravel_index(said[1].argmax(), said.shape[1:])]
    if said.dim() == 2:
        return [Unit(0, int(said[0].abs().argmax())), Unit(1, *strongest)]
    bottom = said.shape[2] - 1
    return [Unit(0, int(said[0, :, bottom, 0].abs().argmax()), bottom, 0), Unit(1, *strongest)]


def _signal(said: Tensor, units: list[Unit]) -> Tensor:
    signal = torch.zeros_like(said)
    for unit in units:
        place = (unit.image, unit.channel) + (() if unit.y is None else (unit.y, unit.x))
        signal[place] = said[place]
    return signal


def _operation(refusal: RefusedOp) -> str:
    found = re.match(r"(aten|\w+)\.(\w+)\.", str(refusal))
    assert found, refusal
    return f"{found[1]}.{found[2]}"


def test_names_are_networks_of_the_zoo() -> None:
    assert {*REFUSED, *QUICK, *NIGHTLY, *NIGHTLY.values()} <= set(NETWORKS)
    assert not set(NIGHTLY) & {*QUICK, *NIGHTLY.values()}


@cache
def _operations(name: str) -> frozenset[tuple[str, str, str]]:
    """The operations of a network, their support and its notes; nothing is computed."""
    return frozenset((use.op, use.support.name, use.note) for use in sketch(name).coverage().uses)


@pytest.mark.slow
@pytest.mark.parametrize("large", NIGHTLY)
def test_nightly_network_has_the_operations_of_the_one_that_covers_it(large: str) -> None:
    assert _operations(large) == _operations(NIGHTLY[large])


def test_every_cnn_of_torchvision_is_here() -> None:
    assert len(zoo.TORCHVISION) >= 69 and len(zoo.SEGMENTATION) == 6


def test_every_cnn_family_of_timm_is_here() -> None:
    timm = pytest.importorskip("timm")
    for family in zoo.TIMM_FAMILIES:
        members = timm.list_models(module=family)
        assert members, f"timm has no {family} any more"
        assert set(members) & set(zoo.TIMM), f"no network of timm's {family} is tested"
