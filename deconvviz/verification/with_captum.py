"""Second computation of projections by captum, one unit at a time."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.verification.passes import Place

CLASSES = {
    "deconvnet": "NeuronDeconvolution",
    "guided": "NeuronGuidedBackprop",
    "gradient": "NeuronGradient",
    "input_x_gradient": "NeuronGradient",
}


def copied(network: nn.Module) -> nn.Module | None:
    """Return a copy of a network whose ReLUs suit captum: they are not in place, and read copies.

    captum replaces the whole gradient of what a ReLU reads, also the part that comes from other branches that
    read the same tensor. Return None if the network cannot be copied.
    """
    try:
        found = copy.deepcopy(network)
    except Exception:  # a module may hold tensors or objects that refuse to be copied, and raise anything
        return None
    for part in found.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
            _read_copies(part)
    return found


def _read_copies(relu: nn.ReLU) -> None:
    """Let a ReLU read a copy of its input."""
    kind = type(relu)

    def call(self: nn.Module, input: Tensor) -> Any:
        return kind.__call__(self, input.clone())

    relu.__class__ = type(kind.__name__, (kind,), {"__call__": call})


def _pass_copies_on(layer: nn.Module) -> None:
    """Let a module return a copy after its hooks have run, because the network may overwrite what it returns.

    captum would then differentiate the overwritten output.
    """
    kind = type(layer)

    def call(self: nn.Module, *args: Any, **options: Any) -> Any:
        return kind.__call__(self, *args, **options).clone()

    layer.__class__ = type(kind.__name__, (kind,), {"__call__": call})


def same_output(network: nn.Module, layer: nn.Module, copy: nn.Module, own: nn.Module, image: Tensor) -> bool:
    """Return whether a layer and its copy return the same for an image, bit by bit.

    They differ if an in-place ReLU of the network overwrites a map that another branch reads later.
    """
    return torch.equal(_output_of(network, layer, image), _output_of(copy, own, image))


def _output_of(network: nn.Module, layer: nn.Module, image: Tensor) -> Tensor:
    """Return the output of the first call of a layer."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(
        lambda part, args, output: outputs.append(output.detach().clone())  # later calls may overwrite it
    )
    try:
        with torch.no_grad():
            network(image.clone())
    finally:
        handle.remove()
    return outputs[0]


def captum_maps(
    network: nn.Module, layer: nn.Module, image: Tensor, method: str, places: Sequence[Place]
) -> Iterator[Tensor]:
    """Yield the map (C, H, W) of each unit of a layer, times the activation of the unit.

    captum starts with a signal of 1. The product is right for an activation that is not negative: rectified
    signals do not commute with -1.

    Args:
        network: The network in evaluation mode. captum adds hooks, so it should be a copy.
        layer: The module of the layer, called once.
        image: The prepared image, (1, C, H, W).
        method: Name of the method.
        places: The units.
    """
    from captum import attr

    _pass_copies_on(layer)
    values = _output_of(network, layer, image)
    attribution = getattr(attr, CLASSES[method])(nn.Sequential(network), layer)
    for place in places:
        index = place.index(values, channels_last=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum warns about its hooks and gradients
            selector = index[1:] if len(index) > 2 else index[1]
            pixels = attribution.attribute(image.clone().requires_grad_(True), selector)
        found = pixels.detach()[0] * values[index]
        yield found * image[0] if method == "input_x_gradient" else found
