"""Projections through every network of torchvision and each family of timm equal those of autograd.

The networks have random weights in float64. Units of a shallow, a middle and a deep layer and class scores
are projected from small images. A network is within 1e-8 of autograd, or is listed in UNSUPPORTED with the
operation that cannot be projected.
"""

from __future__ import annotations

import re
from collections.abc import Collection
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
    # attention between the images of a batch, instead of between positions
    "timm:csatv2": "aten.mm",
}
"""The unsupported operation of each of these networks."""

NETWORKS = [*zoo.TORCHVISION, *zoo.SEGMENTATION, *(f"timm:{name}" for name in zoo.TIMM)]

QUICK = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v3_small", "resnet18",
    "timm:test_efficientnet_ln", "timm:test_nfnet", "timm:test_coatnet", "timm:test_maxvit",
)  # fmt: skip
"""Networks that are tested in every run."""


def _with_mark(name: str, by_day: Collection[str]) -> Any:
    if name in QUICK:
        return name
    return pytest.param(name, marks=pytest.mark.slow if name in by_day else pytest.mark.nightly)


@pytest.mark.parametrize("name", [_with_mark(name, (*zoo.BY_DAY, *zoo.SEGMENTATION)) for name in NETWORKS])
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
    "timm:mobilenetv2_050": 1.0,
    "timm:efficientvit_m0": 1.0,
    "timm:mobilenetv4_hybrid_medium": 1.0,
    "timm:nextvit_small": 1.0,
    "timm:fastvit_mci0": 0.02,
}
"""Gain of `randomise` for networks whose softmax saturates with the usual random weights."""

LARGE = ("timm:nasnetalarge", "timm:pnasnet5large", "timm:mobilenetv5_base", "timm:convmixer_768_32")
"""Networks of which only one layer is tested by day, and all every night."""

IN_SINGLE_PRECISION = (
    "timm:efficientvit_b0", "timm:efficientvit_l1",
    *(f"timm:{name}_evos" for name in ("regnetz_b16", "resnetv2_50d", "ese_vovnet39b")),
)  # fmt: skip
"""Networks that convert a map to float32, so that autograd rounds there. The engine does not."""


@pytest.mark.parametrize(
    "name", [_with_mark(name, zoo.GRADIENTS_BY_DAY) for name in NETWORKS if name not in LARGE]
)
def test_gradient_and_guided_backpropagation_equal_autograd(name: str) -> None:
    _check_gradients(name)


@pytest.mark.parametrize("name", [_with_mark(name, zoo.GRADIENTS_BY_DAY) for name in LARGE])
def test_gradients_of_a_large_network_equal_autograd_at_one_layer(name: str) -> None:
    _check_gradients(name, slice(1, 2))


@pytest.mark.nightly
@pytest.mark.parametrize("name", LARGE)
def test_gradients_of_a_large_network_equal_autograd(name: str) -> None:
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
        wanted = UNSUPPORTED.get(name)
        assert unsupported == (set() if wanted is None else {wanted})
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
    assert {*UNSUPPORTED, *QUICK, *zoo.BY_DAY, *zoo.GRADIENTS_BY_DAY} <= set(NETWORKS)
    assert {*QUICK, *UNSUPPORTED} <= set(zoo.BY_DAY)


@pytest.mark.nightly
def test_each_operation_of_the_zoo_is_in_a_network_that_is_tested_by_day() -> None:
    """Operations count with their support and notes. Gradients are tested in two networks, if two use one."""
    users: dict[tuple[str, str, str], set[str]] = {}
    for name in NETWORKS:
        if name not in zoo.SEGMENTATION:  # these are all tested by day
            for use in sketch(name).coverage().uses:
                users.setdefault((use.op, use.support.name, use.note), set()).add(name)
    assert len(users) > 60
    for by_day, of, wanted in (
        (zoo.BY_DAY, NETWORKS, 1),
        (zoo.GRADIENTS_BY_DAY, zoo.ONE_OF_EACH_FAMILY, 2),
    ):
        missing = {
            operation: len(names & set(by_day))
            for operation, names in users.items()
            if len(names & set(by_day)) < min(wanted, len(names & set(of)))
        }
        assert missing == {}


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
