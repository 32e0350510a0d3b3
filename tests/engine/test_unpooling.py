"""Max unpooling on both kinds of devices, compared with the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deconvviz.engine.index_maps import SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules import unpooling

WINDOWS = [
    (SlidingWindow(3, 2), SlidingWindow(3, 2)),
    (SlidingWindow(2, 2), SlidingWindow(2, 2)),
    (SlidingWindow(3, 1, 1), SlidingWindow(3, 1, 1)),
    (SlidingWindow(1, 2), SlidingWindow(4, 1)),
    (SlidingWindow(4, 3), SlidingWindow(1, 2)),
    (SlidingWindow(3, 2, 1, 2), SlidingWindow(2, 1, 0, 3)),
    (SlidingWindow(13, 1, 6), SlidingWindow(5, 3)),
    (SlidingWindow(16, 1), SlidingWindow(16, 1)),  # as many positions as one byte can number
    (SlidingWindow(20, 5), SlidingWindow(17, 5)),  # more than that
]


def defined(signal: Tensor, switches: Tensor, rows: SlidingWindow, columns: SlidingWindow) -> Tensor:
    """Move one signal after the other."""
    k, c, h, w = signal.shape
    x = signal.new_zeros(k, c, (h - 1) * rows.stride + rows.extent, (w - 1) * columns.stride + columns.extent)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in (k, c, h, w))).tolist():
        unit, channel, row, column = place
        t_row, t_column = divmod(int(switches[tuple(place)]), columns.kernel)
        y, there = row * rows.stride + t_row * rows.dilation, column * columns.stride
        x[unit, channel, y, there + t_column * columns.dilation] += signal[tuple(place)]
    return x


@pytest.mark.parametrize(("rows", "columns"), WINDOWS, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("way", [unpooling._by_places, unpooling._by_taps])
def test_unpooled_equals_its_definition(
    rows: SlidingWindow, columns: SlidingWindow, memory_format: torch.memory_format, way: object
) -> None:
    assert callable(way)
    random = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 3, 4, 3, generator=random, dtype=torch.float64)
    taps = rows.kernel * columns.kernel
    switches = torch.randint(0, taps, signal.shape, generator=random)
    switches[0, 0] = taps - 1  # neighbours with a common position, if windows overlap
    switches[1, 0] = 0
    narrow = switches.to(torch.uint8 if taps <= 256 else torch.int32)
    expected = defined(signal, switches, rows, columns)
    given = (one.contiguous(memory_format=memory_format) for one in (signal, narrow))
    found = way(*given, rows, columns, tuple(expected.shape))
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_unpooled_leaves_signal_and_switches_unchanged() -> None:
    signal, switches = torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 2, dtype=torch.uint8)
    slide = SlidingWindow(2, 2)
    found = unpooling.unpooled(signal, switches, slide, slide)
    assert float(found.sum()) == 18 and bool((found[:, :, 1::2, ::2] == 1).all())
    assert bool((signal == 1).all()) and bool((switches == 2).all())


@pytest.mark.parametrize("size", [(2, 3), (4, 5), (4, 3)])
def test_windows_of_a_channels_last_map_have_its_format(size: tuple[int, int]) -> None:
    kept = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    start = torch.tensor([[0, 0], [4 - size[0], 5 - size[1]], [0, 5 - size[1]]])
    window = Window(start, size, TensorLayout.of(kept.shape[1:]), torch.tensor([0, 1, 1]))
    found = window.cut(kept.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    for number, (image, (row, column)) in enumerate(zip([0, 1, 1], start.tolist(), strict=True)):
        expected = kept[image, :, row : row + size[0], column : column + size[1]]
        assert torch.equal(found[number], expected)
