"""Transposed convolutions of signals, compared with the sum that defines them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deconvviz.engine.rules import transposed

CASES: list[dict[str, Any]] = [
    {"kernel": (7, 7), "stride": (2, 2)},
    {"kernel": (7, 7), "stride": (2, 2), "crop": (3, 3)},
    {"kernel": (3, 3), "stride": (2, 2), "crop": (1, 0), "extra": (0, 1)},
    {"kernel": (11, 11), "stride": (4, 4), "crop": (2, 5)},
    {"kernel": (4, 4), "stride": (4, 4), "extra": (3, 2)},
    {"kernel": (2, 3), "stride": (4, 2), "crop": (1, 2)},  # gaps between the windows
    {"kernel": (5, 3), "stride": (2, 3), "crop": (4, 2), "extra": (0, 0)},
    {"kernel": (1, 1), "stride": (2, 2), "extra": (1, 1)},
    {"kernel": (4, 2), "stride": (2, 2), "crop": (0, 1), "extra": (1, 0)},
    {"kernel": (1, 1), "stride": (1, 1)},
    {"kernel": (3, 3), "stride": (2, 1), "crop": (1, 1)},
    {"kernel": (3, 3), "stride": (2, 2), "dilation": (2, 1), "crop": (2, 1)},
    {"kernel": (3, 3), "stride": (2, 2), "groups": 2},
    {"kernel": (1, 1), "stride": (1, 1), "groups": 2},
]


def defined(
    signal: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int],
    crop: tuple[int, int],
    dilation: tuple[int, int],
    extra: tuple[int, int],
    groups: int,
) -> Tensor:
    """Add each signal, times the weight, to the positions of its window, one position after the other."""
    (k, out, h, w), (kernel_rows, kernel_columns) = signal.shape, weight.shape[2:]
    high = (h - 1) * stride[0] + dilation[0] * (kernel_rows - 1) + 1
    wide = (w - 1) * stride[1] + dilation[1] * (kernel_columns - 1) + 1
    size = weight.shape[1]
    whole = signal.new_zeros(k, size * groups, high + extra[0], wide + extra[1])
    for channel in range(out):
        group = channel // (out // groups)
        below = slice(group * size, (group + 1) * size)
        for y in range(h):
            for x in range(w):
                for row in range(kernel_rows):
                    for column in range(kernel_columns):
                        there = y * stride[0] + row * dilation[0], x * stride[1] + column * dilation[1]
                        value = signal[:, channel, y, x, None] * weight[channel, :, row, column]
                        whole[:, below, there[0], there[1]] += value
    rows, columns = (
        slice(cut, length - cut + more) for cut, length, more in zip(crop, (high, wide), extra, strict=True)
    )
    return whole[:, :, rows, columns]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_transposed_convolution_equals_its_definition(
    case: dict[str, Any], channels: int, memory_format: torch.memory_format
) -> None:
    settings = {"crop": (0, 0), "dilation": (1, 1), "extra": (0, 0), "groups": 1, **case}
    kernel = settings.pop("kernel")
    random = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 4, 3, 2, generator=random, dtype=torch.float64)
    weight = torch.randn(4, channels, *kernel, generator=random, dtype=torch.float64)
    expected = defined(signal, weight, **settings)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = transposed.transposed_convolution(
            signal.to(dtype).contiguous(memory_format=memory_format), weight.to(dtype), **settings
        )
        assert found.dtype == dtype and found.shape == expected.shape
        assert float((found.double() - expected).abs().max()) <= close * float(expected.abs().max())


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "groups", "way"),
    [
        (3, 7, 2, 1, "_by_phases"),
        (8, 7, 2, 1, ""),  # a CPU computes many channels at once without phases
        (3, 3, 1, 1, ""),
        (2, 3, 2, 2, ""),
        (8, 1, 1, 1, "_pointwise"),
        (8, 1, 2, 1, ""),
    ],
)
def test_way_depends_on_the_shape(
    channels: int, kernel: int, stride: int, groups: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    for name in ("_by_phases", "_pointwise"):
        real = getattr(transposed, name)
        monkeypatch.setattr(
            transposed, name, lambda *given, name=name, real=real: called.append(name) or real(*given)
        )
    weight = torch.ones(4, channels, kernel, kernel)
    transposed.transposed_convolution(
        torch.ones(1, 4, 2, 2), weight, stride=(stride, stride), crop=(0, 0), dilation=(1, 1),
        extra=(0, 0), groups=groups,
    )  # fmt: skip
    assert called == ([way] if way else [])


@pytest.mark.parametrize(("dtype", "parts"), [(torch.float32, 2), (torch.float64, 1)], ids=str)
def test_large_weights_are_used_in_parts(
    dtype: torch.dtype, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    signal = torch.randn(1, 301, 4, 5, generator=random, dtype=torch.float64)
    weight = torch.randn(301, 299, 3, 3, generator=random, dtype=torch.float64)  # 3.2 MB in float32
    expected = torch.nn.functional.conv_transpose2d(signal, weight, stride=2, padding=1, output_padding=1)
    used: list[Tensor] = []
    real = transposed.aten.convolution

    class Counting:
        @staticmethod
        def convolution(some: Tensor, taps: Tensor, *others: Any) -> Tensor:
            used.append(taps)
            return real(some, taps, *others)

    monkeypatch.setattr(transposed, "aten", Counting)
    found = transposed.transposed_convolution(
        signal.to(dtype),
        weight.to(dtype),
        stride=(2, 2),
        crop=(1, 1),
        dilation=(1, 1),
        extra=(1, 1),
        groups=1,
    )
    assert len(used) == parts and sum(len(taps) for taps in used) == 301
    assert float((found.double() - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
