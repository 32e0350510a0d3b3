"""Projections through networks of other libraries equal those of autograd.

The networks of Hugging Face's transformers, segmentation_models_pytorch, MONAI and Ultralytics have random
weights in float64. A unit at the border and the strongest unit of three layers are projected.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import other_zoos, passes
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import Autograd, difference
from torch import Tensor

from deconvviz.engine.units import Unit

pytestmark = pytest.mark.slow

EXACT = 1e-8


def _with_mark(name: str) -> Any:
    return pytest.param(name, marks=() if name in other_zoos.BY_DAY else pytest.mark.nightly)


@pytest.mark.parametrize("name", [_with_mark(name) for name in other_zoos.NETWORKS])
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_projections_at_several_depths_equal_autograd(name: str) -> None:
    if reason := other_zoos.why_missing(name):
        pytest.skip(reason)
    network, images = other_zoos.build(name), other_zoos.images()
    methods = ("gradient", "guided") if name in other_zoos.BY_DAY else ()
    recorded = passes.run(network, images, methods=methods)
    layers = _layers(recorded)
    assert len(layers) >= 2
    oracles: dict[str, Any] = {"": Autograd(network, images, layers)}
    if methods:
        oracles["gradient"] = PlainAutograd(network, images, layers)
        oracles["guided"] = PlainAutograd(network, images, layers, Guided())
    alive = 0
    for method, theirs in oracles.items():
        ours = recorded.by(method) if method else recorded
        for layer in layers:
            activations = ours.outputs[layer]
            output = theirs.outputs[layer].detach()
            assert difference(ours.in_module_layout(layer, activations), output) <= EXACT
            for unit in _units(activations):
                ((one,), _) = ours.units(layer, [unit])
                want = theirs.project(layer, ours.in_module_layout(layer, _signal(activations, unit)))
                assert difference(one, want[unit.image]) <= EXACT, (method, layer, unit)
                alive += bool(want[unit.image].any())
    assert alive >= len(layers) * len(oracles)  # at least half of the projections are not zero


def _layers(recorded: passes.Pass) -> list[str]:
    """Return a shallow, a middle and a deep layer that return a map and are called once.

    Constants, such as the weights of attention, are left out: their projections are zero.
    """
    outputs = recorded.tape.outputs
    calls = [output.module for output in outputs]
    others = {output.module for output in outputs if output.keys}  # parts of tuples and dictionaries
    others |= {
        output.module for output in outputs if output.value is None or not recorded.tape.path(output.value)
    }
    maps = [name for name in recorded.maps if calls.count(name) == 1 and name not in others]
    some = [
        name
        for name in maps
        if recorded.outputs[name].dim() == 4 and recorded.outputs[name][0, 0].numel() > 1
    ]
    return list(dict.fromkeys([some[len(some) // 8], some[len(some) // 2], some[-1]]))


def _units(activations: Tensor) -> list[Unit]:
    bottom = activations.shape[2] - 1
    border = Unit(0, int(activations[0, :, bottom, 0].abs().argmax()), bottom, 0)
    strongest = torch.unravel_index(activations[1].argmax(), activations.shape[1:])
    return [border, Unit(1, *(int(n) for n in strongest))]


def _signal(activations: Tensor, unit: Unit) -> Tensor:
    signal = torch.zeros_like(activations)
    place = (unit.image, unit.channel, unit.y, unit.x)
    signal[place] = activations[place]
    return signal


def test_networks_of_every_run_are_listed() -> None:
    assert set(other_zoos.BY_DAY) <= set(other_zoos.NETWORKS)
