"""Max unpooling of signals from the switches inside their windows."""

from __future__ import annotations

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SlidingWindow
from deconvviz.engine.layout import empty, zeros

aten = torch.ops.aten


def unpooled(signal: Tensor, switches: Tensor, rows: SlidingWindow, columns: SlidingWindow) -> Tensor:
    """Move each signal to its switch, and add those with a common position.

    Args:
        signal: (K, C, h, w).
        switches: t_row * columns.kernel + t_column of each signal, uint8 or int32, of the same shape.
        rows: Windows along the rows; their padding does not count.
        columns: Windows along the columns.

    Returns:
        (K, C, h', w'), from the first position of the first window to the last position of the last.
    """
    h, w = signal.shape[2:]
    shape = (*signal.shape[:2], _length(rows, h), _length(columns, w))
    if signal.device.type == "cpu":
        return _by_places(signal, switches, rows, columns, shape)
    return _by_taps(signal, switches, rows, columns, shape)


def _length(slide: SlidingWindow, count: int) -> int:
    return (count - 1) * slide.stride + slide.extent


def _by_places(
    signal: Tensor,
    switches: Tensor,
    rows: SlidingWindow,
    columns: SlidingWindow,
    shape: tuple[int, ...],
) -> Tensor:
    """Use the backward pass of PyTorch's pooling. On a GPU it would add in an order that varies."""
    (h, w), wide = signal.shape[2:], shape[3]
    first = torch.arange(h)[:, None] * (rows.stride * wide) + torch.arange(w) * columns.stride  # (h, w)
    row = _rows(switches, rows.kernel, columns.kernel).to(torch.int32)
    places = row.mul_(rows.dilation * wide - columns.dilation * columns.kernel)
    places = places.add_(switches, alpha=columns.dilation).add_(first.to(torch.int32))
    x: Tensor = aten.max_pool2d_with_indices_backward(
        signal,
        empty(signal, shape),  # only its shape is used
        [rows.kernel, columns.kernel],
        [rows.stride, columns.stride],
        [0, 0],
        [rows.dilation, columns.dilation],
        False,
        places.long(),
    )
    return x


def _rows(switches: Tensor, high: int, wide: int) -> Tensor:
    """Return the row of each switch inside its window of `high` rows and `wide` columns.

    Each row above the first is found with `clamp`, which is faster than a division or a comparison. Sums that
    are too large for the type wrap around, and the subtraction wraps them back.
    """
    if high == 1:
        return torch.zeros_like(switches)
    row = switches.clamp(wide - 1, wide)
    for number in range(2, high):
        row += switches.clamp(number * wide - 1, number * wide)
    too_much = sum(number * wide - 1 for number in range(1, high))
    return row.sub_(too_much % 2 ** torch.iinfo(switches.dtype).bits)


def _by_taps(
    signal: Tensor,
    switches: Tensor,
    rows: SlidingWindow,
    columns: SlidingWindow,
    shape: tuple[int, ...],
) -> Tensor:
    """Add the signals of one position of the windows after the other."""
    h, w = signal.shape[2:]
    x = zeros(signal, shape)
    for tap in range(rows.kernel * columns.kernel):
        row, column = divmod(tap, columns.kernel)
        row, column = row * rows.dilation, column * columns.dilation
        x[
            :, :,
            row : row + (h - 1) * rows.stride + 1 : rows.stride,
            column : column + (w - 1) * columns.stride + 1 : columns.stride,
        ] += signal * (switches == tap)  # fmt: skip
    return x
