"""Convolutions and pools in three dimensions, of which the last two are rows and columns of the image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.asking import check_boxes, check_pixels, noise, positive, seeded, wrapped
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

import deconvviz as dv

SHAPE = (3, 13, 12)


class Volume(nn.Module):
    """Network that turns images into volumes, applies 3-D layers, and turns the volumes into maps again."""

    def __init__(
        self,
        into: Callable[[Tensor], Tensor],
        layers: list[nn.Module],
        out: Callable[[Tensor], Tensor],
        last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.into, self.out = into, out
        self.layers = nn.Sequential(*layers)
        self.map = nn.Identity()
        self.last = last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.map(self.out(self.layers(self.into(x)))))


def depth(x: Tensor) -> Tensor:
    """Return (B, 1, C, H, W): the channels become the depth."""
    return x.unsqueeze(1)


def channels(x: Tensor) -> Tensor:
    """Return (B, C, 4, H, W): four copies of the images, each darker than the one before."""
    return torch.stack([x, 0.9 * x, 0.8 * x, 0.5 * x], 2)


def mean(x: Tensor) -> Tensor:
    return x.mean(2)


def squeezed(x: Tensor) -> Tensor:
    return x.squeeze(2)


def joined(x: Tensor) -> Tensor:
    return x.flatten(1, 2)


def first(x: Tensor) -> Tensor:
    return x[:, :, 0]


VOLUMES: dict[str, Callable[[], nn.Module]] = {
    "whole depth": lambda: Volume(depth, [nn.Conv3d(1, 4, 3), nn.ReLU()], squeezed),
    "relu(conv3d(x.unsqueeze(1))).mean(2)": lambda: Volume(
        depth, [nn.Conv3d(1, 4, (2, 3, 3)), nn.ReLU()], mean
    ),
    "stride, padding, dilation": lambda: Volume(
        channels,
        [nn.Conv3d(3, 4, (3, 3, 2), (1, 2, 1), (1, 2, 1), (1, 1, 2)), nn.ReLU()],
        mean,
        nn.Conv2d(4, 3, 2),
    ),
    "groups, without bias": lambda: Volume(
        channels, [nn.Conv3d(3, 6, (2, 3, 3), groups=3, bias=False)], joined
    ),
    "kernel along the depth only": lambda: Volume(
        depth, [nn.Conv3d(1, 4, (3, 1, 1)), nn.ReLU()], squeezed, nn.Conv2d(4, 3, 3)
    ),
    "two convolutions": lambda: Volume(
        channels,
        [nn.Conv3d(3, 4, (2, 3, 3), 1, (0, 1, 0)), nn.ReLU(), nn.Conv3d(4, 5, (3, 2, 3), (1, 1, 2))],
        squeezed,
    ),
    "same padding": lambda: Volume(channels, [nn.Conv3d(3, 4, 3, padding="same"), nn.ReLU()], first),
    "max-pool": lambda: Volume(
        channels, [nn.Conv3d(3, 4, (1, 3, 3)), nn.ReLU(), nn.MaxPool3d(2)], joined, nn.Conv2d(8, 3, 2)
    ),
    "max-pool, overlapping, padded": lambda: Volume(
        channels, [nn.Conv3d(3, 4, (2, 3, 3)), nn.MaxPool3d((2, 3, 3), (1, 2, 1), (1, 1, 0))], mean
    ),
    "max-pool of rows and columns": lambda: Volume(
        depth, [nn.Conv3d(1, 4, (3, 3, 3)), nn.ReLU(), nn.MaxPool3d((1, 2, 2), ceil_mode=True)], squeezed
    ),
    "average pool": lambda: Volume(
        channels, [nn.Conv3d(3, 4, (1, 3, 3)), nn.ReLU(), nn.AvgPool3d(2)], joined, nn.Conv2d(8, 3, 2)
    ),
    "average pool, overlapping, padded": lambda: Volume(
        channels, [nn.Conv3d(3, 4, (2, 3, 3)), nn.AvgPool3d((2, 3, 3), (1, 2, 1), (1, 1, 0))], mean
    ),
    "average pool, padding not counted": lambda: Volume(
        channels,
        [nn.Conv3d(3, 4, 1), nn.AvgPool3d(3, (1, 2, 2), 1, ceil_mode=True, count_include_pad=False)],
        joined,
    ),
    "average pool with a divisor": lambda: Volume(
        channels, [nn.Conv3d(3, 4, 1), nn.AvgPool3d(2, 2, divisor_override=3)], mean
    ),
    "both pools between convolutions": lambda: Volume(
        channels,
        [
            nn.Conv3d(3, 4, (1, 2, 2)),
            nn.ReLU(),
            nn.MaxPool3d((2, 2, 2), (1, 2, 2)),
            nn.Conv3d(4, 4, (2, 2, 2)),
            nn.ReLU(inplace=True),
            nn.AvgPool3d((2, 2, 2), 1),
        ],
        squeezed,
        nn.Conv2d(4, 3, 1),
    ),
    "batch norm": lambda: Volume(channels, [nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.ReLU()], mean),
}  # fmt: skip


@pytest.mark.parametrize("name", VOLUMES)
def test_projections_through_volumes_equal_autograd(name: str) -> None:
    network, images = seeded(VOLUMES[name]), noise(2, *SHAPE)
    found = check_pixels(network, images, "last", Autograd(network, images))
    assert not found.coverage.approximate and not found.coverage.unsupported


@pytest.mark.parametrize("name", VOLUMES)
def test_boxes_through_volumes_equal_the_measured_ones(name: str) -> None:
    network = positive(seeded(VOLUMES[name]))
    with torch.no_grad():
        c, h, w = network(noise(1, *SHAPE)).shape[1:]
    check_boxes(network, SHAPE, "last", [(0, 0, 0), (c - 1, h - 1, w - 1), (c // 2, h // 2, w // 3)])


def test_convolution_of_depth_one_is_projected_as_a_2d_convolution() -> None:
    network = seeded(lambda: Volume(lambda x: x.unsqueeze(2), [nn.Conv3d(3, 4, (1, 3, 3), 2)], squeezed))
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, 2)).double().eval()
    weight, bias = network.layers[0].weight, network.layers[0].bias  # type: ignore[index,union-attr]
    flat[0].weight.data, flat[0].bias.data = weight.data.squeeze(2), bias.data  # type: ignore[union-attr]
    images = noise(2, *SHAPE)
    found = check_pixels(network, images, "last", Autograd(network, images))
    oracle = Autograd(flat, images)
    for pixels, unit in zip(found.pixels, found.units, strict=True):
        assert difference(pixels, oracle.unit("0", unit.image, unit.channel, unit.y, unit.x)) <= 1e-12
    layer = wrapped(network, images).layers["last"]
    assert (layer.field, layer.stride, layer.offset) == ((3, 3), (2, 2), (0, 0))


FIELDS = {
    "whole depth": ((3, 3), (1, 1), (0, 0)),
    "stride, padding, dilation": ((5, 4), (2, 1), (-2, -1)),
    "two convolutions": ((4, 5), (1, 2), (-1, 0)),
    "max-pool": ((6, 6), (2, 2), (0, 0)),
    "average pool, overlapping, padded": ((5, 5), (2, 1), (-1, 0)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_field_of_a_layer_above_volumes_is_known(name: str) -> None:
    layers = wrapped(seeded(VOLUMES[name]), noise(1, *SHAPE)).layers
    layer = layers["last"]
    assert (layer.field, layer.stride, layer.offset) == FIELDS[name]
    assert not layer.sees_all and not layer.unsupported and layer.has_channels


def test_units_projected_together_equal_units_projected_one_by_one() -> None:
    network, images = seeded(VOLUMES["both pools between convolutions"]), noise(2, *SHAPE)
    recording = wrapped(network, images).record(images, "last")
    _, h, w = recording.activations("last").shape[1:]
    units = [dv.Unit(b, 1, y, x) for b in (0, 1) for y in range(h) for x in range(w)]
    together = recording.project("last", units).pixels
    assert together.any()
    assert difference(recording.project("last", units, memory=1).pixels, together) <= 1e-12


def test_ties_in_a_volume_go_to_the_first_position() -> None:
    """As in PyTorch, the switch is the first of equal values by depth, then row, then column."""
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), Volume(depth, [nn.MaxPool3d((3, 2, 2))], squeezed)
    )
    nn.init.ones_(network[0].weight)  # type: ignore[union-attr]
    network = network.double().eval()
    images = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    _, switches = F.max_pool3d(network[0](images).unsqueeze(1), (3, 2, 2), return_indices=True)
    assert switches.flatten().tolist() == [0, 2, 8, 10]
    found = wrapped(network, images).record(images, "1").project("1", dv.Unit(0, 0, 1, 1))
    assert found.pixels.nonzero().tolist() == [[0, c, 2, 2] for c in range(3)]
    assert float(found.pixels.max()) == 3
