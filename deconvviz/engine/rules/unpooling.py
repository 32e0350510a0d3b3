"""Max unpooling of signals from the switches inside their windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

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


def unpooled_volume(signal: Tensor, switches: Tensor, slides: Sequence[SlidingWindow]) -> Tensor:
    """Move each signal (K, C, d, h, w) to its switch, as `unpooled`.

    A switch is the number of a position in its window, depth first, then rows, then columns.
    """
    lengths = [_length(slide, n) for slide, n in zip(slides, signal.shape[2:], strict=True)]
    if signal.device.type != "cpu":
        return _volume_by_taps(signal, switches, slides, lengths)
    places, rest = torch.zeros(switches.shape, dtype=torch.long), switches.long()
    for axis in (2, 1, 0):
        tap, rest = rest % slides[axis].kernel, rest // slides[axis].kernel
        along = [1] * 3
        along[axis] = -1
        first = torch.arange(signal.shape[2 + axis]).reshape(along) * slides[axis].stride
        places += (first + tap * slides[axis].dilation) * math.prod(lengths[axis + 1 :])
    x = signal.new_zeros(*signal.shape[:2], math.prod(lengths))
    x.scatter_add_(2, places.flatten(2), signal.flatten(2))
    return x.reshape(*x.shape[:2], *lengths)


def _volume_by_taps(
    signal: Tensor, switches: Tensor, slides: Sequence[SlidingWindow], lengths: Sequence[int]
) -> Tensor:
    """Add the signals of one position of the windows after the other. Their order does not vary on a GPU."""
    x = signal.new_zeros(*signal.shape[:2], *lengths)
    for number, tap in enumerate(product(*(range(slide.kernel) for slide in slides))):
        places = zip(tap, slides, signal.shape[2:], strict=True)
        along = [
            slice(t * slide.dilation, t * slide.dilation + (n - 1) * slide.stride + 1, slide.stride)
            for t, slide, n in places
        ]
        x[:, :, along[0], along[1], along[2]] += signal * (switches == number)
    return x
