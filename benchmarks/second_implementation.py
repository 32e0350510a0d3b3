"""Compare the projections of a network with those of the second implementation, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import NetworkError
from deconvviz.layers import Layer


@dataclass(frozen=True)
class Compared:
    """The largest relative difference of units of some layers from those of the second implementation."""

    difference: float
    layers: int
    detections: int
    zero: int  # projections that are zero in both
    single: bool  # whether the network needs single precision

    @property
    def allowed(self) -> float:
        return 1e-4 if self.single else 1e-9

    @property
    def equal(self) -> bool:
        return self.difference <= self.allowed

    def __str__(self) -> str:
        text = f"{self.difference:.1e} at {self.layers} layers" + " in single precision" * self.single
        text += " and a detection" * self.detections
        return text + (f", {self.zero} of them zero" if self.zero else "")


def compare(net: dv.Network, count: int = 3) -> Compared:
    """Compare a unit of some layers of a network.

    The layers are `count` maps, the last one among them, the scores of the whole image if the network has
    them, and for a detector the class score of a detection. The weights are random, in double precision if
    the network allows it.
    """
    own = with_random_weights(net)
    layers = compared_layers(own.layers, count)
    if not layers:
        raise NetworkError(f"{net.name} has no layer with a map or a vector")
    differences: list[float] = []
    zero = detections = 0
    recording = own.record(inputs_of(own), layers)
    for layer in layers:
        projection = recording.project(layer, recording.strongest(layer, k=1))
        differences.append(dv.verify(own, projection).largest_difference)
        zero += not bool(projection.pixels.any())
    if own.preprocessing.crop_mode == "own":
        differences.append(of_detection(own))
        detections = 1
    largest = max(differences, key=lambda one: (one != one, one))  # NaN is the largest
    return Compared(largest, len(layers), detections, zero, own.dtype == torch.float32)


def compared_layers(layers: Sequence[Layer], count: int) -> list[Layer]:
    """Return some of the layers with maps that can be projected, and the last one with a vector of scores."""
    known = [one for one in layers if one.has_channels and not one.unsupported and not one.is_constant]
    maps = [one for one in known if len(one.shape) == one.spatial + 1 > 2 and one.shape[1] > 1]
    chosen = dict.fromkeys(maps[len(maps) * (n + 1) // count - 1] for n in range(count) if maps)
    vectors = [one for one in known if len(one.shape) == 1]
    return [*chosen, *vectors[-1:]]


def with_random_weights(net: dv.Network) -> dv.Network:
    """Return a network with random weights in double precision, or in single precision if it needs that.

    A detector keeps the weights that it was made with, because others leave no boxes.
    """
    module = net.module
    if any(parameter.is_meta for parameter in module.parameters()):
        assert net.origin.model is not None
        module = dv.load(net.origin.model.text, weights="random").module
    if net.preprocessing.crop_mode != "own":
        randomise(module)
    options: dict[str, Any] = {
        "preprocessing": net.preprocessing,
        "inputs": net.inputs or None,
        "name": net.name,
    }
    try:
        found = dv.Network(module.double(), **options)
        found.layers  # noqa: B018  # runs the network
    except NetworkError:  # it casts to float32 inside
        found = dv.Network(module.float(), **options)
    return found


def inputs_of(net: dv.Network) -> Tensor | tuple[Tensor, ...]:
    """Return a random value of each input; pictures of the detectors have values from 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    shape = net.preprocessing.input_shape
    if net.preprocessing.crop_mode == "own":
        return torch.rand(1, *shape, generator=generator)
    found = [torch.randn(1, *shape, generator=generator) for _ in range(max(1, len(net.inputs)))]
    return tuple(found) if net.inputs else found[0]


def of_detection(net: dv.Network) -> float:
    """Return the difference of the class score of the first detection in a random picture."""
    layer = net.detections_layer
    recording = net.record(inputs_of(net), layer)
    projection = recording.project(layer, recording.detection_unit(0))
    return dv.verify(net, projection).largest_difference


def randomise(module: nn.Module) -> None:
    """Fill weights and statistics so that deep maps neither vanish nor overflow."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            for name, tensor in part.named_parameters(recurse=False):
                if tensor.dim() > 1:
                    bound = (6 / tensor[0].numel()) ** 0.5
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * 2 * bound - bound)
                else:
                    low, high = (-0.1, 0.1) if "bias" in name else (0.5, 1.5)
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
            for name, tensor in part.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    tensor.fill_(0.1 if name == "running_mean" else 1.0)
