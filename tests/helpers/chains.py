"""Hypothesis strategies for random small networks with any geometry that PyTorch accepts."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor, nn

Draw = Any
CHANNELS = 4  # of every layer; divisible by groups of 1, 2 and 4


@st.composite
def convolutions(draw: Draw) -> nn.Module:
    return nn.Conv2d(
        CHANNELS,
        CHANNELS,
        kernel_size=draw(pairs(1, 4)),
        stride=draw(pairs(1, 3)),
        padding=draw(pairs(0, 3)),
        dilation=draw(pairs(1, 3)),
        groups=draw(st.sampled_from([1, 1, 2, 4])),
        bias=draw(st.booleans()),
    )


@st.composite
def max_pools(draw: Draw) -> nn.Module:
    kernel = draw(pairs(1, 4))
    return nn.MaxPool2d(
        kernel,
        stride=draw(st.one_of(st.none(), pairs(1, 3))),
        padding=draw(half_of(kernel)),
        dilation=draw(pairs(1, 3)),
        ceil_mode=draw(st.booleans()),
    )


@st.composite
def average_pools(draw: Draw) -> nn.Module:
    kernel = draw(pairs(1, 4))
    return nn.AvgPool2d(
        kernel,
        stride=draw(st.one_of(st.none(), pairs(1, 3))),
        padding=draw(half_of(kernel)),
        ceil_mode=draw(st.booleans()),
        count_include_pad=draw(st.booleans()),
        divisor_override=draw(st.sampled_from([None, None, 1, 5])),
    )


@st.composite
def adaptive_pools(draw: Draw) -> nn.Module:
    return nn.AdaptiveAvgPool2d(draw(pairs(1, 6)))


@st.composite
def batch_norms(draw: Draw) -> nn.Module:
    return nn.BatchNorm2d(CHANNELS, eps=draw(st.sampled_from([1e-5, 0.1])), affine=draw(st.booleans()))


@st.composite
def plain(draw: Draw) -> nn.Module:
    return draw(st.sampled_from([nn.ReLU, lambda: nn.ReLU(inplace=True), nn.Dropout, nn.Identity]))()


SLIDING = st.one_of(convolutions(), max_pools(), average_pools(), plain(), batch_norms())
ANY = st.one_of(SLIDING, SLIDING, adaptive_pools())


@st.composite
def chains(draw: Draw, layers: Any = ANY, longest: int = 5, sizes: tuple[int, int] = (3, 13)) -> Any:
    """Draw (network, images): a chain of layers, without layers that the feature map is too small for."""
    torch.manual_seed(draw(st.integers(0, 9999)))
    images = torch.randn(draw(st.integers(1, 3)), CHANNELS, *draw(pairs(*sizes)), dtype=torch.float64)
    network = nn.Sequential()
    for layer in draw(st.lists(layers, min_size=1, max_size=longest)):
        _randomise_statistics(layer)
        network.append(layer.double())
        if not _fits(network.eval(), images):
            del network[-1]
    network.append(nn.Identity())  # so that the network is never empty and its last layer has a name
    return network, images


def positive(network: nn.Module) -> nn.Module:
    """Make every parameter and buffer positive, so that inputs cannot cancel. Returns the network."""
    with torch.no_grad():
        for number in (*network.parameters(), *network.buffers()):
            number.abs_()
    return network


def _randomise_statistics(layer: nn.Module) -> None:
    if isinstance(layer, nn.BatchNorm2d):
        for number in (*layer.parameters(), layer.running_mean, layer.running_var):
            nn.init.uniform_(number, 0.5, 2)  # type: ignore[arg-type]


def _fits(network: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            output = network(images.clone())
            return bool(output.numel() and output.isfinite().all())  # the maximum of padding alone is -inf
    except RuntimeError:  # raised by PyTorch for a map that is too small
        return False


def pairs(low: int, high: int) -> Any:
    """Strategy for two whole numbers, often equal."""
    one = st.integers(low, high)
    return st.one_of(one.map(lambda n: (n, n)), st.tuples(one, one))


def half_of(kernel: tuple[int, int]) -> Any:
    """Strategy for paddings that are valid for a pooling kernel."""
    return st.tuples(*(st.integers(0, n // 2) for n in kernel))
