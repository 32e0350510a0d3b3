"""Projections of units through the public API, and comparison with reference implementations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import deconvviz as dv
from helpers.oracles import Autograd, difference, hull

EXACT = 1e-9
Place = tuple[int, ...]  # channel, row, column; or the number of an output


class Calls(nn.Module):
    """Module that calls a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return normally distributed numbers in float64, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network in float64 and evaluation mode, with the same weights for the same seed."""
    torch.manual_seed(seed)
    return build().double().eval()


def wrapped(network: nn.Module, images: Tensor) -> dv.Network:
    """Wrap a module as a network whose input has the shape of these images, without normalisation."""
    channels = images.shape[1]
    size = (images.shape[2], images.shape[3])
    return dv.Network(network, size=size, mean=(0,) * channels, std=(1,) * channels)


def projected(network: nn.Module, images: Tensor, layer: str, places: Sequence[Place]) -> dv.Projection:
    """Project the units at these places of a layer, in the first and in the last image."""
    recording = wrapped(network, images).record(images, [layer])
    chosen = sorted({0, len(images) - 1})
    return recording.project(layer, [dv.Unit(image, *place) for image in chosen for place in places])


def extremes(output: Tensor) -> list[Place]:
    """Return the places of the highest and the lowest unit in the first image, two corners and the centre."""
    high, low = (torch.unravel_index(n, output.shape[1:]) for n in (output[0].argmax(), output[0].argmin()))
    places = [tuple(int(n) for n in place) for place in (high, low)]
    if output.dim() == 4:
        h, w = output.shape[2:]
        places += [(0, 0, 0), (output.shape[1] - 1, h - 1, w - 1), (0, h // 2, w // 2)]
    return places


def check_pixels(network: nn.Module, images: Tensor, layer: str, oracle: Autograd) -> dv.Projection:
    """Check that the projections of some units of a layer equal those of the oracle, and return them."""
    found = projected(network, images, layer, extremes(oracle.outputs[layer].detach()))
    wanted = []
    for unit in found.units:
        position = () if unit.y is None or unit.x is None else (unit.y, unit.x)
        wanted.append(oracle.unit(layer, unit.image, unit.channel, *position))
    assert torch.stack(wanted).any()
    for pixels, want, unit in zip(found.pixels, wanted, found.units, strict=True):
        assert difference(pixels, want) <= EXACT, unit
    return found


def positive(network: nn.Module) -> nn.Module:
    """Make every weight positive, so that the inputs of a unit cannot cancel. Returns the network."""
    with torch.no_grad():
        for number in network.parameters():
            number.abs_()
    return network


def changing(network: nn.Module, shape: Sequence[int], layer: str, place: Place) -> Any:
    """Return the box around the pixels that change a unit, found by raising each pixel on its own."""
    height, width = shape[1:]
    image = 1 + torch.rand(tuple(shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    raised = image.repeat(height * width + 1, 1, 1, 1)
    for number in range(height * width):
        raised[number, :, number // width, number % width] += (
            100  # the maximum of every window that contains it
        )
    outputs: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda part, args, out: outputs.append(out))
    try:
        with torch.no_grad():
            network(raised)
    finally:
        handle.remove()
    unit = outputs[0][(slice(None), *place)]
    changed = (unit[:-1] - unit[-1]).abs() > 1e-9 * unit[-1].abs()
    return hull(changed.reshape(height, width).numpy())


def check_boxes(network: nn.Module, shape: Sequence[int], layer: str, places: Sequence[Place]) -> None:
    """Check that the boxes of units contain exactly the pixels that change them.

    The network must not have negative weights.
    """
    image = torch.ones(1, *shape, dtype=torch.float64)
    found = projected(network, image, layer, places)
    for box, unit, place in zip(found.boxes, found.units, places, strict=True):
        want = changing(network, shape, layer, place)
        assert box == want, unit
        outside = found.pixels[found.units.index(unit)].clone()
        outside[:, box[1] : box[3], box[0] : box[2]] = 0
        assert not outside.any(), unit
