"""The transposed convolution of signals, computed in the way that is fastest for its shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, fold, pad, pixel_shuffle

from deconvviz.engine.rules.winograd import transposed_by_winograd, winograd_is_faster

aten = torch.ops.aten

_FEW_CHANNELS = 4  # a CPU computes 8 or 16 channels at once, and leaves most of them idle for so few

_LARGEST_WEIGHT = 5 << 19
"""Bytes of a weight that a CPU convolution copies into another format at once.

The heap rarely has room for a copy in one piece, and grows for larger ones with each projection.
"""


def transposed_convolution(
    signal: Tensor,
    weight: Tensor,
    *,
    stride: Sequence[int],
    crop: Sequence[int],
    dilation: Sequence[int],
    extra: Sequence[int],
    groups: int,
) -> Tensor:
    """Return the transposed convolution of a signal, as `aten.convolution` with ``transposed=True``.

    Args:
        signal: (K, out, h, w), or with another number of axes.
        weight: (out, in / groups, *kernel), of the type of the signal.
        stride: Distance of the windows, for rows and columns.
        crop: Rows and columns to leave out at the start and at the end, fewer than the kernel has.
        dilation: Distance of the positions of a window.
        extra: Rows and columns of zeros to append at the end.
        groups: Number of groups of channels.

    Returns:
        (K, in, h', w') with ``h' = (h - 1) * stride + dilation * (kernel - 1) + 1 - 2 * crop + extra``.
    """
    kernel = tuple(weight.shape[2:])
    simple = signal.device.type == "cpu" and groups == 1 and set(dilation) == {1}
    if simple and set(kernel) == set(stride) == {1}:
        return _pointwise(signal, weight)
    if simple and len(kernel) == 2 and weight.shape[1] <= _FEW_CHANNELS:
        if min(stride) > 1:
            return _by_phases(signal, weight, stride, crop, extra)
        if set(stride) == {1}:
            return _by_columns(signal, weight, crop)
    three = kernel == (3, 3) and set(stride) == {1} and signal.dtype == torch.float32
    if simple and three and winograd_is_faster(signal, weight, crop):
        return transposed_by_winograd(signal, weight, crop)
    count = math.ceil(weight.nbytes / _LARGEST_WEIGHT) if simple and signal.dtype == torch.float32 else 1
    parts = zip(signal.chunk(count, 1), weight.chunk(count, 0), strict=True)
    results = (
        aten.convolution(some, taps, None, stride, crop, dilation, True, extra, groups)
        for some, taps in parts
    )
    x: Tensor = next(results)
    for more in results:
        x.add_(more)
    return x


def _pointwise(signal: Tensor, weight: Tensor) -> Tensor:
    """Project through a 1x1 convolution: a matrix product, which needs no preparation for new shapes."""
    first = (slice(None), slice(None)) + (0,) * (weight.dim() - 2)
    matrix = weight[first]  # (out, in)
    return (signal.movedim(1, -1) @ matrix).movedim(-1, 1)  # (K, out, h, w) -> (K, in, h, w)


def _by_columns(signal: Tensor, weight: Tensor, crop: Sequence[int]) -> Tensor:
    """Multiply each position with the whole kernel, and add the products at their positions."""
    kernel = weight.shape[2:]
    size = [n + length - 1 - 2 * cut for n, length, cut in zip(signal.shape[2:], kernel, crop, strict=True)]
    taps = weight.flatten(1).T.expand(len(signal), -1, -1)  # (K, in * kernel, out)
    columns = torch.bmm(taps, signal.flatten(2))  # (K, in * kernel, h * w)
    return fold(columns, tuple(size), tuple(kernel), padding=tuple(crop))


def _by_phases(
    signal: Tensor, weight: Tensor, stride: Sequence[int], crop: Sequence[int], extra: Sequence[int]
) -> Tensor:
    """Compute the transposed convolution as an ordinary one with a channel for each phase of the stride.

    Output position ``q * stride + r`` has the phase r. It depends on the signal at q and the `taps` - 1
    positions before. The result has ``in * stride * stride`` channels and a stride of 1, so that a CPU
    computes more channels at once.
    """
    lengths = [
        (n - 1) * step + length - 2 * cut + more
        for n, step, length, cut, more in zip(
            signal.shape[2:], stride, weight.shape[2:], crop, extra, strict=True
        )
    ]
    taps = [math.ceil(length / step) for length, step in zip(weight.shape[2:], stride, strict=True)]
    left_out = [cut // step for cut, step in zip(crop, stride, strict=True)]  # positions q with all phases
    x = conv2d(
        signal,
        _phases(weight, stride, taps),
        padding=[tap - 1 - fewer for tap, fewer in zip(taps, left_out, strict=True)],
    )
    x = _interleaved(x, stride)
    for axis in (0, 1):
        first = crop[axis] - left_out[axis] * stride[axis]
        there = min(lengths[axis], x.shape[2 + axis] - first)
        x = x.narrow(2 + axis, first, there)
    missing = [length - there for length, there in zip(lengths, x.shape[2:], strict=True)]
    return pad(x, [0, missing[1], 0, missing[0]]) if any(missing) else x


def _phases(weight: Tensor, stride: Sequence[int], taps: Sequence[int]) -> Tensor:
    """Return the weight of an ordinary convolution, (in * phases, out, *taps), for `_by_phases`."""
    (rows, columns), (high, wide) = stride, taps
    more = [taps[axis] * stride[axis] - weight.shape[2 + axis] for axis in (0, 1)]
    parts = pad(weight, [0, more[1], 0, more[0]]).unflatten(3, (wide, columns)).unflatten(2, (high, rows))
    parts = parts.flip(2, 4)  # (out, in, taps, phases, taps, phases): the last tap reads the first position
    found: Tensor = parts.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
    return found


def _interleaved(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Move phases to their positions: (K, in * phases, h, w) to (K, in, h * rows, w * columns)."""
    rows, columns = stride
    if rows == columns:
        return pixel_shuffle(x, rows)
    parts = x.unflatten(1, (-1, rows, columns)).permute(0, 1, 4, 2, 5, 3)  # (K, in, h, rows, w, columns)
    found: Tensor = parts.flatten(4, 5).flatten(2, 3)
    return found
