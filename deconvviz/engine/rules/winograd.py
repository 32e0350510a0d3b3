"""3x3 convolutions with stride 1 by Winograd's method F(4x4, 3x3): a quarter of the multiplications.

A tile of 4x4 results is a polynomial product, computed from its values at six points (Lavin and Gray 2016,
"Fast Algorithms for Convolutional Neural Networks"). With the points 0, +-1/sqrt(2), +-sqrt(2) and infinity,
single precision is as accurate as a direct convolution; with the usual 0, +-1, +-2 it loses a digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from deconvviz.engine.layout import sparse_zeros, zeros

_TILE, _KERNEL = 4, 3
_SIDE = _TILE + _KERNEL - 1  # of the part of the signal that a tile depends on
_CELLS = _SIDE**2
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))
_WEIGHTS = 10 << 20  # bytes of transformed weights at once
_SIGNALS = 4 << 20  # bytes of transformed signals at once, so that they stay in a cache


def winograd_is_faster(signal: Tensor, weight: Tensor, crop: Sequence[int]) -> bool:
    """Return whether `transposed_by_winograd` is likely to be faster than a direct convolution on a CPU.

    The arguments are as for that function. Costs are in multiply-adds of a direct convolution. Their factors
    were measured (AMD EPYC with AVX-512).
    """
    (units, channels, *lengths), colours = signal.shape, weight.shape[1]
    sizes = [length + _KERNEL - 1 - 2 * cut for length, cut in zip(lengths, crop, strict=True)]
    tiles = units * math.prod(-(-size // _TILE) for size in sizes)
    direct = units * math.prod(sizes) * _KERNEL**2 * channels * colours
    once = 200 * weight.numel()  # to transform the weights
    each = 1.35 * _CELLS * channels * colours + 6300 * channels + 2500 * colours
    return once + tiles * each < 0.78 * direct


def transposed_by_winograd(signal: Tensor, weight: Tensor, crop: Sequence[int]) -> Tensor:
    """Return the transposed convolution of a signal, with stride 1 and without some rows and columns.

    Args:
        signal: (K, out, h, w).
        weight: (out, in, 3, 3).
        crop: Rows and columns to leave out at the start and at the end: 0, 1 or 2.

    Returns:
        (K, in, h', w') with ``h' = h + 2 - 2 * crop``, in channels-last format.
    """
    high, wide = (n + _KERNEL - 1 - 2 * cut for n, cut in zip(signal.shape[2:], crop, strict=True))
    rows, columns = (-(-length // _TILE) for length in (high, wide))  # of tiles
    (top, left), (more, wider) = (
        [_KERNEL - 1 - cut for cut in crop],
        [tiles * _TILE - length for tiles, length in ((rows, high), (columns, wide))],
    )
    padded = pad(signal, [left, left + wider, top, top + more]).permute(0, 2, 3, 1)  # (K, h, w, out)
    taps = weight.reshape(-1, _KERNEL**2).T  # (9, out * in), without copying a weight in the usual format
    x = zeros(signal, (len(signal), weight.shape[1], rows * _TILE, columns * _TILE))
    scratch = _kept_scratch.get() or Scratch()
    to_signal, to_weight, to_result = (one.to(signal.dtype) for one in _matrices())
    for cells in _cells_at_once(weight):
        weights = _product(to_weight[cells], taps, scratch.weights)  # (cells, out * in)
        weights = weights.unflatten(1, weight.shape[:2])
        for part, into in _parts(padded, x):
            tiles = _filled(part.flatten(0, 1), scratch.first).flatten(1, 3)  # (36, tiles, out)
            values = _product(to_signal[cells], tiles, scratch.second)  # (cells, tiles, out)
            shape = (*values.shape[:2], weights.shape[2])
            values = torch.bmm(values, weights, out=scratch.first.take(shape))  # (cells, tiles, in)
            into += _product(to_result[:, cells], values, scratch.second).view(into.shape)
    return x[:, :, :high, :wide]


class _Room:
    """Memory for one tensor after another, as large as the largest of them."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def take(self, shape: Sequence[int]) -> Tensor:
        """Return an uninitialised tensor, whose memory the next one uses again."""
        count = math.prod(shape)
        if self._memory.numel() < count:
            self._memory = sparse_zeros(self._memory, [count], torch.float32, filled=True)
        return self._memory[:count].view(tuple(shape))


class Scratch:
    """Working memory of `transposed_by_winograd`, which several calls may share.

    Memory that is taken and freed for each call would be scattered, and the process would grow.
    """

    def __init__(self) -> None:
        self.weights, self.first, self.second = _Room(), _Room(), _Room()


_kept_scratch: ContextVar[Scratch | None] = ContextVar("scratch", default=None)


@contextmanager
def kept_scratch() -> Iterator[None]:
    """Keep the working memory of convolutions until the end of the context."""
    before = _kept_scratch.set(Scratch())
    try:
        yield
    finally:
        _kept_scratch.reset(before)


def _product(matrix: Tensor, values: Tensor, room: _Room) -> Tensor:
    """Return the product of (n, m) and (m, ...)."""
    found = room.take((len(matrix), *values.shape[1:]))
    torch.mm(matrix, values.flatten(1), out=found.flatten(1))
    return found


def _filled(values: Tensor, room: _Room) -> Tensor:
    return room.take(values.shape).copy_(values)


def _cells_at_once(weight: Tensor) -> Iterator[slice]:
    """Divide the cells so that their transformed weights are not too large."""
    count = max(1, _WEIGHTS // (4 * weight.shape[0] * weight.shape[1]))
    count = -(-_CELLS // -(-_CELLS // count))
    for first in range(0, _CELLS, count):
        yield slice(first, first + count)


def _parts(padded: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide signals (K, h, w, out) and results (K, in, h', w') into parts that fit into a cache.

    Yield overlapping tiles (6, 6, units, rows, columns, out), and where their results belong,
    (4, 4, units, rows, columns, in), both without copying.
    """
    ahead = padded.unfold(1, _SIDE, _TILE).unfold(2, _SIDE, _TILE).permute(4, 5, 0, 1, 2, 3)
    behind = x.permute(0, 2, 3, 1).unflatten(2, (-1, _TILE)).unflatten(1, (-1, _TILE))
    behind = behind.permute(2, 4, 0, 1, 3, 5)
    units, rows, columns = ahead.shape[2:5]
    tile = 4 * _CELLS * max(ahead.shape[5], behind.shape[5])  # bytes
    some_rows = min(rows, max(1, _SIGNALS // (tile * columns)))
    some_units = max(1, _SIGNALS // (tile * columns * some_rows))
    for unit in range(0, units, some_units):
        for row in range(0, rows, some_rows):
            one = slice(unit, unit + some_units), slice(row, row + some_rows)
            yield ahead[:, :, one[0], one[1]], behind[:, :, one[0], one[1]]


@lru_cache(maxsize=1)
def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Return the transforms of tiles (36, 36), weights (36, 9) and results (16, 36) in double precision."""
    taps = torch.arange(_KERNEL - 1, -1, -1, dtype=torch.float64)  # reversed, because it is transposed
    tiles, weights, results = (torch.zeros(_SIDE, n, dtype=torch.float64) for n in (_SIDE, _KERNEL, _TILE))
    for number, point in enumerate(_POINTS):
        others = _POINTS[:number] + _POINTS[number + 1 :]
        tiles[number, :-1] = _with_roots(others)
        weights[number] = point**taps / math.prod(point - other for other in others)
        results[number] = point ** torch.arange(_TILE, dtype=torch.float64)
    tiles[-1] = _with_roots(_POINTS)
    weights[-1, 0] = results[-1, -1] = 1  # the point at infinity
    return torch.kron(tiles, tiles), torch.kron(weights, weights), torch.kron(results.T, results.T)


def _with_roots(roots: Sequence[float]) -> Tensor:
    """Return the coefficients of the polynomial with these roots, the constant first."""
    found = [1.0]
    for root in roots:
        found = [low - root * high for low, high in zip([0.0, *found], [*found, 0.0], strict=True)]
    return torch.tensor(found, dtype=torch.float64)
