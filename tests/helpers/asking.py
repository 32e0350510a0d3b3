"""What a network's units give when asked through the public API, and what they are compared with."""

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
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network in float64 with the same weights each time."""
    torch.manual_seed(seed)
    return build().double().eval()


def wrapped(network: nn.Module, pictures: Tensor) -> dv.Network:
    channels = pictures.shape[1]
    size = (pictures.shape[2], pictures.shape[3])
    return dv.Network(network, size=size, mean=(0,) * channels, std=(1,) * channels)


def projected(network: nn.Module, pictures: Tensor, layer: str, places: Sequence[Place]) -> dv.Projection:
    """Units of a layer, each in the first picture and in the last one."""
    recording = wrapped(network, pictures).record(pictures, [layer])
    images = sorted({0, len(pictures) - 1})
    return recording.project(layer, [dv.Unit(image, *place) for image in images for place in places])


def extremes(said: Tensor) -> list[Place]:
    """The highest and the lowest unit of the first picture, its corners and its middle."""
    high, low = (torch.unravel_index(n, said.shape[1:]) for n in (said[0].argmax(), said[0].argmin()))
    places = [tuple(int(n) for n in place) for place in (high, low)]
    if said.dim() == 4:
        h, w = said.shape[2:]
        places += [(0, 0, 0), (said.shape[1] - 1, h - 1, w - 1), (0, h // 2, w // 2)]
    return places


def check_pixels(network: nn.Module, pictures: Tensor, layer: str, oracle: Autograd) -> dv.Projection:
    """Some units of a layer must equal the oracle's."""
    found = projected(network, pictures, layer, extremes(oracle.outputs[layer].detach()))
    wanted = []
    for unit in found.units:
        position = () if unit.y is None or unit.x is None else (unit.y, unit.x)
        wanted.append(oracle.unit(layer, unit.image, unit.channel, *position))
    assert torch.stack(wanted).any()
    for pixels, want, unit in zip(found.pixels, wanted, found.units, strict=True):
        assert difference(pixels, want) <= EXACT, unit
    return found


def positive(network: nn.Module) -> nn.Module:
    """With every weight above zero nothing that a unit sees can cancel."""
    with torch.no_grad():
        for number in network.parameters():
            number.abs_()
    return network


def changing(network: nn.Module, shape: Sequence[int], layer: str, place: Place) -> Any:
    """x0, y0, x1, y1 around the pixels that change a unit when they are raised one by one."""
    height, width = shape[1:]
    picture = 1 + torch.rand(tuple(shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    raised = picture.repeat(height * width + 1, 1, 1, 1)
    for number in range(height * width):
        raised[number, :, number // width, number % width] += 100  # the highest of every window it is in
    said: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda part, args, out: said.append(out))
    try:
        with torch.no_grad():
            network(raised)
    finally:
        handle.remove()
    unit = said[0][(slice(None), *place)]
    changed = (unit[:-1] - unit[-1]).abs() > 1e-9 * unit[-1].abs()
    return hull(changed.reshape(height, width).numpy())


def check_boxes(network: nn.Module, shape: Sequence[int], layer: str, places: Sequence[Place]) -> None:
    """The boxes of units must be the pixels that can change them. No weight may be below zero."""
    picture = torch.ones(1, *shape, dtype=torch.float64)
    found = projected(network, picture, layer, places)
    for box, unit, place in zip(found.boxes, found.units, places, strict=True):
        want = changing(network, shape, layer, place)
        assert box == want, unit
        outside = found.pixels[found.units.index(unit)].clone()
        outside[:, box[1] : box[3], box[0] : box[2]] = 0
        assert not outside.any(), unit
