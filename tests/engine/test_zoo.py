"""Projections through every network of torchvision and each family of timm equal those of autograd.

The networks have random weights in float64. Units of a shallow, a middle and a deep layer and class scores
are projected from small images. A network is within 1e-8 of autograd, or is listed in UNSUPPORTED with the
operation that cannot be projected.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch
from helpers import passes, zoo
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import Autograd, difference
from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp
from deconvviz.loading import sketch

pytestmark = pytest.mark.slow

EXACT = 1e-8

UNSUPPORTED = {
    # filters that are computed for each image: the batch becomes groups of one convolution
    "timm:tf_efficientnet_cc_b0_4e": "aten.view",
    # a product of matrices that are slices of one map
    "timm:bat_resnext26ts": "aten.view",
    # a cosine transform with indexed frequencies
    "timm:csatv2": "aten.index",
}
"""The unsupported operation of each of these networks."""

NETWORKS = [*zoo.TORCHVISION, *zoo.SEGMENTATION, *(f"timm:{name}" for name in zoo.TIMM)]

QUICK = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v3_small", "resnet18",
    "timm:test_efficientnet_ln", "timm:test_nfnet", "timm:test_coatnet", "timm:test_maxvit",
)  # fmt: skip
"""Networks that are tested in every run."""

NIGHTLY = {
    **dict.fromkeys(("vgg13", "vgg16", "vgg19"), "vgg11"),
    **dict.fromkeys(("vgg13_bn", "vgg16_bn", "vgg19_bn"), "vgg11_bn"),
    "resnet34": "resnet18",
    **dict.fromkeys(("resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"), "resnet50"),
    **dict.fromkeys(("resnext101_32x8d", "resnext101_64x4d", "timm:resnext50_32x4d"), "resnext50_32x4d"),
    **dict.fromkeys(("densenet161", "densenet169", "densenet201"), "densenet121"),
    **dict.fromkeys((f"regnet_x_{size}" for size in ("800mf", "1_6gf", "3_2gf")), "regnet_x_400mf"),
    **dict.fromkeys((f"regnet_x_{size}gf" for size in (8, 16, 32)), "regnet_x_400mf"),
    **dict.fromkeys((f"regnet_y_{size}" for size in ("800mf", "1_6gf", "3_2gf")), "regnet_y_400mf"),
    **dict.fromkeys((f"regnet_y_{size}gf" for size in (8, 16, 32, 128)), "regnet_y_400mf"),
    **dict.fromkeys((f"efficientnet_b{size}" for size in range(1, 8)), "efficientnet_b0"),
    **dict.fromkeys(("efficientnet_v2_m", "efficientnet_v2_l"), "efficientnet_v2_s"),
    **dict.fromkeys(("convnext_small", "convnext_base", "convnext_large"), "convnext_tiny"),
    **dict.fromkeys((f"mnasnet{width}" for width in ("0_75", "1_0", "1_3")), "mnasnet0_5"),
    **dict.fromkeys((f"shufflenet_v2_x{width}" for width in ("1_0", "1_5", "2_0")), "shufflenet_v2_x0_5"),
    "timm:repvgg_d2se": "timm:mobileone_s4",
    "timm:cs3edgenet_x": "timm:cs3darknet_focus_s",
    "timm:cspresnext50": "timm:cspresnet50",
    "timm:efficientnetv2_rw_t": "timm:efficientnet_b0",
    "timm:focalnet_tiny_lrf": "timm:focalnet_tiny_srf",
    "timm:coatnet_nano_rw_224": "timm:test_coatnet",
    "timm:maxvit_pico_rw_256": "timm:test_maxvit",
    **dict.fromkeys(
        ("timm:maxxvitv2_nano_rw_256", "timm:maxxvit_rmlp_nano_rw_256"), "timm:coatnext_nano_rw_224"
    ),
    "timm:res2net50_14w_8s": "timm:res2next50",
    "timm:resnest50d_4s2x40d": "timm:resnest14d",
    "timm:resnet50d": "timm:resnet26t",
    "timm:seresnextaa101d_32x8d": "timm:resnetrs50",
    "timm:tresnet_v2_l": "timm:tresnet_m",
    "timm:xception41": "timm:xception41p",
}
"""For each larger network, a quicker one of its family that has the same operations (tested below)."""


def _with_mark(name: str) -> Any:
    if name in NIGHTLY:
        return pytest.param(name, marks=pytest.mark.nightly)
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [_with_mark(name) for name in NETWORKS])
def test_projections_at_several_depths_equal_autograd(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network, images = zoo.build(name), zoo.images(name)
    ours = passes.run(network, images)
    layers = zoo.depths(ours)
    assert len(layers) >= 3
    theirs = Autograd(network, images, layers)
    alive, unsupported = 0, set()
    for layer in layers:
        activations, units = ours.outputs[layer], _units(ours.outputs[layer])
        assert difference(ours.in_module_layout(layer, activations), theirs.outputs[layer].detach()) <= EXACT
        try:
            pixels, _ = ours.units(layer, units)
        except RefusedOp as error:
            unsupported.add(_operation(error))
            continue
        want = theirs.project(layer, ours.in_module_layout(layer, _signal(activations, units)))
        for one, unit in zip(pixels, units, strict=True):
            assert difference(one, want[unit.image]) <= EXACT, (layer, unit)
            alive += bool(want[unit.image].any())
    assert unsupported == ({UNSUPPORTED[name]} if name in UNSUPPORTED else set())
    assert alive >= (0 if unsupported else 2 * len(layers) - 2)  # most projections are not zero


METHODS = {"gradient": None, "guided": Guided}

SMALL_GAINS = {
    "timm:efficientvit_m0": 1.0,
    "timm:mobilenetv4_hybrid_medium": 1.0,
    "timm:nextvit_small": 1.0,
    "timm:fastvit_mci0": 0.02,
}
"""Gain of `randomise` for networks whose softmax saturates with the usual random weights."""

LARGE = ("timm:nasnetalarge", "timm:pnasnet5large", "timm:mobilenetv5_base", "timm:convmixer_768_32")
"""Networks of which only one layer is tested by day, and all every night."""

IN_SINGLE_PRECISION = ("timm:efficientvit_b0", "timm:efficientvit_l1")
"""Networks that convert a map to float32, so that autograd rounds there. The engine does not."""


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in zoo.ONE_OF_EACH_FAMILY
    ],
)
def test_gradient_and_guided_backpropagation_equal_autograd(name: str) -> None:
    _check_gradients(name, slice(1, 2) if name in LARGE else slice(None))


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if name in LARGE or name not in zoo.ONE_OF_EACH_FAMILY]
)
def test_gradients_of_every_other_network_equal_autograd(name: str) -> None:
    _check_gradients(name)


def _check_gradients(name: str, which: slice = slice(None)) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network, images = zoo.build(name, SMALL_GAINS.get(name, 4.0)), zoo.images(name)
    exact = 1e-6 if name in IN_SINGLE_PRECISION else 1e-10
    recorded = passes.run(network, images, methods=tuple(METHODS))
    layers = zoo.depths(recorded)[which]
    for method, mode in METHODS.items():
        ours = recorded.by(method)
        theirs = PlainAutograd(network, images, layers, mode() if mode else None)
        unsupported, alive = set(), 0
        for layer in layers:
            activations, units = ours.outputs[layer], _units(ours.outputs[layer])
            try:
                pixels, _ = ours.units(layer, units)
            except RefusedOp as error:
                unsupported.add(_operation(error))
                continue
            want = theirs.project(layer, ours.in_module_layout(layer, _signal(activations, units)))
            for one, unit in zip(pixels, units, strict=True):
                assert difference(one, want[unit.image]) <= exact, (method, layer, unit)
                alive += bool(want[unit.image].any())
        assert unsupported == ({UNSUPPORTED[name]} if name in UNSUPPORTED else set())
        assert alive >= (0 if unsupported else 2 * len(layers) - 2)


def _units(activations: Tensor) -> list[Unit]:
    """Return a unit at the border in the first image, and the strongest unit in the second."""
    strongest = [int(n) for n in torch.unravel_index(activations[1].argmax(), activations.shape[1:])]
    if activations.dim() == 2:
        return [Unit(0, int(activations[0].abs().argmax())), Unit(1, *strongest)]
    bottom = activations.shape[2] - 1
    return [Unit(0, int(activations[0, :, bottom, 0].abs().argmax()), bottom, 0), Unit(1, *strongest)]


def _signal(activations: Tensor, units: list[Unit]) -> Tensor:
    signal = torch.zeros_like(activations)
    for unit in units:
        place = (unit.image, unit.channel) + (() if unit.y is None else (unit.y, unit.x))
        signal[place] = activations[place]
    return signal


def _operation(error: RefusedOp) -> str:
    found = re.match(r"(aten|\w+)\.(\w+)\.", str(error))
    assert found, error
    return f"{found[1]}.{found[2]}"


def test_listed_names_are_networks_of_the_zoo() -> None:
    assert {*UNSUPPORTED, *QUICK, *NIGHTLY, *NIGHTLY.values(), *zoo.ONE_OF_EACH_FAMILY} <= set(NETWORKS)
    assert not set(NIGHTLY) & {*QUICK, *NIGHTLY.values()}


@cache
def _operations(name: str) -> frozenset[tuple[str, str, str]]:
    """Return the operations of a network with their support and notes, without computing anything."""
    return frozenset((use.op, use.support.name, use.note) for use in sketch(name).coverage().uses)


@pytest.mark.nightly
@pytest.mark.parametrize("large", NIGHTLY)
def test_nightly_network_has_the_operations_of_its_smaller_relative(large: str) -> None:
    assert _operations(large) == _operations(NIGHTLY[large])


def test_every_cnn_of_torchvision_is_tested() -> None:
    assert len(zoo.TORCHVISION) >= 69 and len(zoo.SEGMENTATION) == 6


def test_every_cnn_family_of_timm_is_tested() -> None:
    timm = pytest.importorskip("timm")
    for family in zoo.TIMM_FAMILIES:
        members = timm.list_models(module=family)
        assert members, f"timm no longer has {family}"
        assert set(members) & set(zoo.TIMM), f"no network of the timm family {family} is tested"
        sample = [name for name in members if f"timm:{name}" in zoo.ONE_OF_EACH_FAMILY]
        assert sample, f"no gradient of the timm family {family} is tested"
