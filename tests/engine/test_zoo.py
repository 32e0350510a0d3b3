"""Every convolutional network of torchvision, and each family of timm: the mirror against the oracle.

Random weights in float64, small pictures, units of a shallow, a middle and a deep layer, and class scores.
A network is within 1e-8 of the oracle everywhere, or stands in REFUSED with the operations that stop it.
"""

from __future__ import annotations

import re

import pytest
import torch
from helpers import passes, zoo
from helpers.oracles import Autograd, difference
from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp

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


@pytest.mark.parametrize("name", NETWORKS)
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


def test_refused_names_are_networks_of_the_zoo() -> None:
    assert set(REFUSED) <= set(NETWORKS)


def test_every_cnn_of_torchvision_is_here() -> None:
    assert len(zoo.TORCHVISION) >= 69 and len(zoo.SEGMENTATION) == 6


def test_every_cnn_family_of_timm_is_here() -> None:
    timm = pytest.importorskip("timm")
    for family in zoo.TIMM_FAMILIES:
        members = timm.list_models(module=family)
        assert members, f"timm has no {family} any more"
        assert set(members) & set(zoo.TIMM), f"no network of timm's {family} is tested"
