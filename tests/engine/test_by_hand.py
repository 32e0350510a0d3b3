"""Small cases, computed with loops or by hand."""

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


def _project(layer: nn.Module, image: Tensor, signal: Tensor) -> np.ndarray[Any, Any]:
    """Project a signal through one layer."""
    ours = passes.run(nn.Sequential(layer).double(), image)
    return ours.signals("0", signal, [0])[0].numpy()


def test_3x3_convolution_by_hand() -> None:
    """The unit at (0, 1) of an unpadded 3x3 convolution has its kernel over columns 1 to 3."""
    layer = nn.Conv2d(1, 1, 3)
    kernel = [[0.0, 1, 2], [2, 2, 0], [0, 1, 2]]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[kernel]]))
        layer.bias.fill_(100)  # type: ignore[union-attr]
    ours = passes.run(nn.Sequential(layer).double(), _arange())
    pixels, boxes = ours.units("0", [Unit(0, 0, 0, 1)])
    activations = 100 + (2 * 1 + 3 * 2) + (5 * 2 + 6 * 2) + (10 * 1 + 11 * 2)
    assert ours.outputs["0"][0, 0, 0, 1] == activations
    assert (pixels[0, 0] / activations).tolist() == [[0, 0, 1, 2], [0, 2, 2, 0], [0, 0, 1, 2], [0, 0, 0, 0]]
    assert boxes == [(1, 0, 4, 3)]


def test_signals_of_overlapping_windows_add_up_at_a_shared_switch() -> None:
    """3x3 windows with stride 2 over a 5x5 map whose maximum is in the middle: all four have its switch."""
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 2, 2] = 7
    signal = torch.tensor([[[[1.0, 2], [3, 4]]]], dtype=torch.float64)
    want = np.zeros((1, 5, 5))
    want[0, 2, 2] = 1 + 2 + 3 + 4
    assert (_project(nn.MaxPool2d(3, 2), image, signal) == want).all()


def test_relu_rectifies_by_the_sign_of_the_signal() -> None:
    """The sign of the recorded activation makes no difference."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 2, 1, bias=False))
    network.double()
    with torch.no_grad():
        network[0].weight.fill_(-1)  # the input of the ReLU is negative everywhere, its output zero
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
def test_convolution_equals_loops(layer: nn.Conv2d, size: tuple[int, int]) -> None:
    image = _arange(2, *size)
    signal = torch.randn_like(layer.double()(image)).detach()
    want = convolution_by_hand(
        signal[0].numpy(), layer.weight.detach().numpy(), size, layer.stride, layer.padding, layer.dilation
    )
    np.testing.assert_allclose(_project(layer, image, signal), want, rtol=0, atol=1e-13)


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
def test_max_pool_equals_loops(layer: nn.MaxPool2d, size: tuple[int, int], order: str) -> None:
    image = _arange(1, *size)
    numbers = image.flatten()[torch.randperm(image.numel())].reshape(image.shape)
    image = {"rising": image, "falling": -image, "mixed": numbers, "all equal": 0 * image}[order]
    activations = layer(image)
    signal = torch.randn_like(activations)
    geometry = [
        (n, n) if isinstance(n, int) else n
        for n in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    ]
    want = unpool_by_hand(image[0, 0].numpy(), activations[0, 0].numpy(), signal[0, 0].numpy(), *geometry)
    np.testing.assert_allclose(_project(layer, image, signal)[0], want, rtol=0, atol=1e-15)


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
def test_max_pool_with_large_windows_equals_loops(layer: nn.MaxPool2d) -> None:
    """Some of these windows have more than 256 positions: a switch does not fit into a byte."""
    image = torch.randn(1, 1, 19, 75, dtype=torch.float64)
    activations = layer(image)
    signal = torch.randn_like(activations)
    geometry = [(n, n) if isinstance(n, int) else n for n in (layer.kernel_size, layer.stride, layer.padding)]
    numbers = (one[0, 0].numpy() for one in (image, activations, signal))
    want = unpool_by_hand(*numbers, *geometry, (1, 1))
    np.testing.assert_allclose(_project(layer, image, signal)[0], want, rtol=0, atol=1e-13)


def test_average_pools_by_hand() -> None:
    """Each position receives 1/4 of the signal of its 2x2 window, or 1/2 if padding is not counted."""
    one = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    one[0, 0, 0, 1] = 12
    with_padding = _project(nn.AvgPool2d(2, padding=1), _arange(), one)
    assert (with_padding[0, 0] == [0, 3, 3, 0]).all() and with_padding.sum() == 6
    without_padding = _project(nn.AvgPool2d(2, padding=1, count_include_pad=False), _arange(), one)
    assert (without_padding[0, 0] == [0, 6, 6, 0]).all() and without_padding.sum() == 12
    halves = torch.tensor([[[[3.0, 6.0]]]], dtype=torch.float64)
    adaptive = _project(nn.AdaptiveAvgPool2d((1, 2)), _arange(1, 1, 3), halves)
    assert (adaptive[0, 0] == [1.5, 4.5, 3]).all()  # two windows of two positions that share the middle


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_by_hand(affine: bool) -> None:
    """The layer computes (x - 7) / sqrt(3 + 1) * 5 + 11. The projection multiplies by 5 / 2."""
    layer = nn.BatchNorm2d(1, eps=1, affine=affine)
    nn.init.constant_(layer.running_mean, 7)  # type: ignore[arg-type]
    nn.init.constant_(layer.running_var, 3)  # type: ignore[arg-type]
    if affine:
        nn.init.constant_(layer.weight, 5)
        nn.init.constant_(layer.bias, 11)
    signal = _arange() - 5  # batch norm does not rectify
    want = signal[0].numpy() * (5 / 2 if affine else 1 / 2)
    np.testing.assert_allclose(_project(layer, _arange(), signal), want, rtol=1e-15)


def test_fully_connected_layer_by_hand() -> None:
    layer = nn.Linear(3, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2, 3], [0, 5, 7]]))
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3).reshape(3, 3, 1, 1))
    ours = passes.run(network, _arange(3, 2, 2))
    signal = torch.tensor([[8.0, 0], [0, 4]], dtype=torch.float64)
    pixels = ours.signals("3", signal, [0, 0])
    assert pixels[0, :, 1, 0].tolist() == [2, -4, 6]  # 8 * weight / 4 positions
    assert pixels[1, :, 0, 1].tolist() == [0, 5, 7]
