"""Small cases worked out with loops, or on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import passes
from helpers.oracles import convolution_by_hand, unpool_by_hand
from torch import Tensor, nn

from deconvviz.engine.units import Unit


def _arange(channels: int = 1, h: int = 4, w: int = 4) -> Tensor:
    return torch.arange(channels * h * w, dtype=torch.float64).reshape(1, channels, h, w)


def _alone(layer: nn.Module, picture: Tensor, signal: Tensor) -> np.ndarray[Any, Any]:
    ours = passes.run(nn.Sequential(layer).double(), picture)
    return ours.signals("0", signal, [0])[0].numpy()


def test_a_3x3_convolution_on_paper() -> None:
    """The unit at (0, 1) of a valid 3x3 convolution over 0 .. 15 lays its kernel over columns 1 to 3."""
    layer = nn.Conv2d(1, 1, 3)
    kernel = [[0.0, 1, 2], [2, 2, 0], [0, 1, 2]]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[kernel]]))
        layer.bias.fill_(100)  # type: ignore[union-attr]
    ours = passes.run(nn.Sequential(layer).double(), _arange())
    pixels, boxes = ours.units("0", [Unit(0, 0, 0, 1)])
    said = 100 + (2 * 1 + 3 * 2) + (5 * 2 + 6 * 2) + (10 * 1 + 11 * 2)
    assert ours.said["0"][0, 0, 0, 1] == said
    assert (pixels[0, 0] / said).tolist() == [[0, 0, 1, 2], [0, 2, 2, 0], [0, 0, 1, 2], [0, 0, 0, 0]]
    assert boxes == [(1, 0, 4, 3)]


def test_overlapping_windows_share_a_switch_on_paper() -> None:
    """3x3 windows with stride 2 over 5x5 whose middle is the highest: all four send their signal there."""
    picture = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    picture[0, 0, 2, 2] = 7
    signal = torch.tensor([[[[1.0, 2], [3, 4]]]], dtype=torch.float64)
    want = np.zeros((1, 5, 5))
    want[0, 2, 2] = 1 + 2 + 3 + 4
    assert (_alone(nn.MaxPool2d(3, 2), picture, signal) == want).all()


def test_rectification_on_paper() -> None:
    """The signal's own sign counts: neither the recorded activation's, nor both together."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 2, 1, bias=False))
    network.double()
    with torch.no_grad():
        network[0].weight.fill_(-1)  # all maps below the ReLU are negative: it says 0 everywhere
        network[2].weight.copy_(torch.tensor([5.0, -5.0]).reshape(2, 1, 1, 1))
    ours = passes.run(network, _arange() + 1)
    signal = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    signal[0, 0, 1, 1] = signal[1, 1, 2, 2] = 3
    first, second = ours.signals("2", signal, [0, 0])
    assert first[0, 1, 1] == -15 and int((first != 0).sum()) == 1  # a plain gradient would be zero here
    assert not second.any()  # 3 * -5 is below zero


CONVOLUTIONS = [
    (nn.Conv2d(2, 3, 3), (4, 4)),
    (nn.Conv2d(2, 3, 3, padding=1), (4, 4)),
    (nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 0)), (5, 4)),
    (nn.Conv2d(2, 3, 2, dilation=(2, 3), padding=2), (4, 5)),
    (nn.Conv2d(2, 3, 3, stride=2, padding=1), (4, 6)),
]


@pytest.mark.parametrize(("layer", "size"), CONVOLUTIONS, ids=str)
def test_convolutions_by_loops(layer: nn.Conv2d, size: tuple[int, int]) -> None:
    picture = _arange(2, *size)
    signal = torch.randn_like(layer.double()(picture)).detach()
    want = convolution_by_hand(
        signal[0].numpy(), layer.weight.detach().numpy(), size, layer.stride, layer.padding, layer.dilation
    )
    np.testing.assert_allclose(_alone(layer, picture, signal), want, rtol=0, atol=1e-13)


POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2),
    nn.MaxPool2d(3, 2, padding=1),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool2d(3, 1, padding=1),
    nn.MaxPool2d(2, 1, dilation=2),
    nn.MaxPool2d((1, 3), (2, 1), padding=(0, 1), dilation=(1, 1)),
    nn.MaxPool2d((3, 2), stride=2, dilation=(1, 3), padding=1, ceil_mode=True),
]


@pytest.mark.parametrize("layer", POOLS, ids=str)
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (4, 3)])
@pytest.mark.parametrize("order", ["rising", "falling", "mixed", "all equal"])
def test_max_pools_by_loops(layer: nn.MaxPool2d, size: tuple[int, int], order: str) -> None:
    picture = _arange(1, *size)
    numbers = picture.flatten()[torch.randperm(picture.numel())].reshape(picture.shape)
    picture = {"rising": picture, "falling": -picture, "mixed": numbers, "all equal": 0 * picture}[order]
    said = layer(picture)
    signal = torch.randn_like(said)
    geometry = [
        (n, n) if isinstance(n, int) else n
        for n in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    ]
    want = unpool_by_hand(picture[0, 0].numpy(), said[0, 0].numpy(), signal[0, 0].numpy(), *geometry)
    np.testing.assert_allclose(_alone(layer, picture, signal)[0], want, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(5, 1, padding=2),
        nn.MaxPool2d(13, 1, padding=6),
        nn.MaxPool2d(17, 2),
        nn.MaxPool2d((2, 70), 1),
    ],
    ids=str,
)
def test_large_windows_by_loops(layer: nn.MaxPool2d) -> None:
    """Where a switch does not fit into a byte, too."""
    picture = torch.randn(1, 1, 19, 75, dtype=torch.float64)
    said = layer(picture)
    signal = torch.randn_like(said)
    geometry = [(n, n) if isinstance(n, int) else n for n in (layer.kernel_size, layer.stride, layer.padding)]
    numbers = (one[0, 0].numpy() for one in (picture, said, signal))
    want = unpool_by_hand(*numbers, *geometry, (1, 1))
    np.testing.assert_allclose(_alone(layer, picture, signal)[0], want, rtol=0, atol=1e-13)


def test_means_on_paper() -> None:
    """Every position of a window gets its share: of 4 counted in 2x2, of 2 where half of it is padding."""
    one = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    one[0, 0, 0, 1] = 12
    counted = _alone(nn.AvgPool2d(2, padding=1), _arange(), one)
    assert (counted[0, 0] == [0, 3, 3, 0]).all() and counted.sum() == 6
    inside = _alone(nn.AvgPool2d(2, padding=1, count_include_pad=False), _arange(), one)
    assert (inside[0, 0] == [0, 6, 6, 0]).all() and inside.sum() == 12
    halves = torch.tensor([[[[3.0, 6.0]]]], dtype=torch.float64)
    adaptive = _alone(nn.AdaptiveAvgPool2d((1, 2)), _arange(1, 1, 3), halves)
    assert (adaptive[0, 0] == [1.5, 4.5, 3]).all()  # windows of two, sharing the middle


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_on_paper(affine: bool) -> None:
    """(x - 7) / sqrt(3 + 1) * 5 + 11: of all this only 5 / 2 goes down."""
    layer = nn.BatchNorm2d(1, eps=1, affine=affine)
    nn.init.constant_(layer.running_mean, 7)  # type: ignore[arg-type]
    nn.init.constant_(layer.running_var, 3)  # type: ignore[arg-type]
    if affine:
        nn.init.constant_(layer.weight, 5)
        nn.init.constant_(layer.bias, 11)
    signal = _arange() - 5  # batch norm rectifies nothing
    want = signal[0].numpy() * (5 / 2 if affine else 1 / 2)
    np.testing.assert_allclose(_alone(layer, _arange(), signal), want, rtol=1e-15)


def test_a_fully_connected_layer_on_paper() -> None:
    layer = nn.Linear(3, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2, 3], [0, 5, 7]]))
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3).reshape(3, 3, 1, 1))
    ours = passes.run(network, _arange(3, 2, 2))
    signal = torch.tensor([[8.0, 0], [0, 4]], dtype=torch.float64)
    pixels = ours.signals("3", signal, [0, 0])
    assert pixels[0, :, 1, 0].tolist() == [2, -4, 6]  # 8 * W, shared by four positions
    assert pixels[1, :, 0, 1].tolist() == [0, 5, 7]
