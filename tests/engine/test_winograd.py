"""Winograd's method for 3x3 convolutions, compared with a direct convolution in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine.rules import transposed, winograd
from deconvviz.engine.rules.winograd import kept_scratch, transposed_by_winograd, winograd_is_faster


def _direct(signal: Tensor, weight: Tensor, crop: tuple[int, int]) -> Tensor:
    return torch.conv_transpose2d(signal.double(), weight.double(), padding=crop)


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


@given(
    units=st.integers(1, 5),
    channels=st.integers(1, 9),
    colours=st.integers(1, 9),
    size=st.tuples(st.integers(3, 19), st.integers(3, 19)),
    crop=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 99),
    limits=st.tuples(*[st.sampled_from([1, 1 << 11, 1 << 13, 1 << 20])] * 3),  # 1: as little as possible
)
def test_equals_a_direct_convolution(
    units: int,
    channels: int,
    colours: int,
    size: tuple[int, int],
    crop: tuple[int, int],
    seed: int,
    limits: tuple[int, int, int],
) -> None:
    """Also where weights, signals and blocks of tiles are used in parts."""
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(units, channels, *size, generator=generator)
    weight = torch.randn(channels, colours, 3, 3, generator=generator)
    expected = _direct(signal, weight, crop)
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in zip(("_WEIGHTS", "_SIGNALS", "_BLOCK"), limits, strict=True):
            patch.setattr(winograd, name, limit)
        found = transposed_by_winograd(signal, weight, crop)
    assert found.shape == expected.shape
    assert _error(found, expected) < 1e-5


def test_is_as_accurate_as_pytorch_in_deep_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 512, 14, 14, generator=generator).relu()
    weight = torch.randn(512, 512, 3, 3, generator=generator)
    expected = _direct(signal, weight, (1, 1))
    assert _error(transposed_by_winograd(signal, weight, [1, 1]), expected) < 5e-6


def test_calls_share_their_working_memory() -> None:
    """A later call overwrites it, and the result of an earlier one must not be a view of it."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, 3, 3, generator=generator)
    signals = [torch.randn(k, 64, n, n, generator=generator) for k, n in ((1, 30), (4, 40), (2, 9))]
    with kept_scratch():
        found = [transposed_by_winograd(signal, weight, [1, 1]) for signal in signals]
    for one, signal in zip(found, signals, strict=True):
        assert _error(one, _direct(signal, weight, (1, 1))) < 1e-5


@pytest.mark.parametrize(
    ("shape", "colours", "faster"),
    [
        ((4, 512, 28, 28), 512, True),
        ((4, 256, 56, 56), 256, True),
        ((1, 512, 7, 7), 512, False),  # a quarter of the tiles is empty, and the weights are large
        ((1, 64, 224, 224), 64, False),  # few channels: the transforms take longer than the products
    ],
)
def test_is_used_for_many_channels_and_large_maps(shape: tuple[int, ...], colours: int, faster: bool) -> None:
    assert winograd_is_faster(torch.empty(shape), torch.empty(shape[1], colours, 3, 3), [1, 1]) is faster


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 320, 3, padding=1), nn.Conv2d(320, 320, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(x).relu())
        return found


def test_projection_uses_it_and_equals_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    method = transposed.transposed_by_winograd
    monkeypatch.setattr(transposed, "transposed_by_winograd", lambda *a: used.append(1) or method(*a))
    torch.manual_seed(0)
    module = _Wide().eval()
    image = torch.randn(1, 3, 32, 32)
    signal = torch.randn(2, 320, 32, 32)
    found = []
    for dtype in (torch.float32, torch.float64):
        net = dv.Network(module.to(dtype), size=32, name=f"wide {dtype}")
        recording = net.record(image.to(dtype), "second")
        found.append(recording.project("second", signal.to(dtype), image_indices=[0, 0]).pixels)
    assert len(used) == 1  # in single precision only
    assert _error(found[0], found[1]) < 1e-5
