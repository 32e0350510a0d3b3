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

from deconvviz.engine.layout import empty, sparse_zeros

_TILE, _KERNEL = 4, 3
_SIDE = _TILE + _KERNEL - 1  # of the part of the signal that a tile depends on
_CELLS = _SIDE**2
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))
_WEIGHTS = 10 << 20  # bytes of transformed weights at once
_SIGNALS = 2 << 20  # bytes of transformed signals at once, and of their products with the weights
_BLOCK = 1 << 19  # bytes of tiles to transform at once, so that they stay in the cache of a core


def winograd_is_faster(signal: Tensor, weight: Tensor, crop: Sequence[int]) -> bool:
    """Return whether `transposed_by_winograd` is likely to be faster than a direct convolution on a CPU.

    The arguments are as for that function. Costs are in multiply-adds of a direct convolution. Their factors
    were measured (AMD EPYC with AVX-512) while another process used the memory, which Winograd's method needs
    more of.
    """
    (units, channels, *lengths), colours = signal.shape, weight.shape[1]
    sizes = [length + _KERNEL - 1 - 2 * cut for length, cut in zip(lengths, crop, strict=True)]
    tiles = units * math.prod(-(-size // _TILE) for size in sizes)
    direct = units * math.prod(sizes) * _KERNEL**2 * channels * colours
    again = len(list(_cells_at_once(weight))) - 1  # how many times signals and results are used again
    once = (250 + 50 * again) * weight.numel()  # to transform the weights
    transforms = (6000 + 1000 * again) * channels + (5000 + 1000 * again) * colours
    each = 1.4 * _CELLS * channels * colours + transforms
    return once + tiles * each < 0.9 * direct


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
    x = empty(signal, (len(signal), weight.shape[1], rows * _TILE, columns * _TILE))
    scratch = _kept_scratch.get() or Scratch()
    to_signal, to_weight, to_result = (one.to(signal.dtype) for one in _matrices())
    for cells in _cells_at_once(weight):
        weights = _product(to_weight[cells], taps, scratch.weights)  # (cells, out * in)
        weights = weights.unflatten(1, weight.shape[:2])
        for tiles, into in _parts(padded, x, len(weights)):
            values = _transformed(tiles, to_signal[cells], scratch)  # (tiles, cells, out)
            shape = (len(weights), len(values), weights.shape[2])
            products = torch.bmm(values.transpose(0, 1), weights, out=scratch.products.take(shape))
            _add_results(products, to_result[:, cells], into, scratch, first=cells.start == 0)
    return x[:, :, :high, :wide]


def _transformed(tiles: Tensor, matrix: Tensor, scratch: Scratch) -> Tensor:
    """Return the product of (cells, 36) and tiles (units, rows, columns, 6, 6, C): (tiles, cells, C)."""
    values = scratch.signals.take((tiles.shape[:3].numel(), len(matrix), tiles.shape[5]))
    for block, part in _blocks(tiles.shape, 4 * tiles.shape[3:].numel(), _BLOCK):
        some = scratch.block.take(tiles[block].shape).copy_(tiles[block])
        some = some.flatten(3, 4).flatten(0, 2)  # (some tiles, 36, C)
        torch.bmm(matrix.expand(len(some), -1, -1), some, out=values[part])
    return values


def _add_results(products: Tensor, matrix: Tensor, into: Tensor, scratch: Scratch, *, first: bool) -> None:
    """Add the product of (16, cells) and (cells, tiles, C) to results (units, rows, columns, 4, 4, C).

    If it is the `first` product, it replaces them.
    """
    for block, part in _blocks(into.shape, 4 * into.shape[3:].numel(), _BLOCK):
        results = into[block]
        found = _product(matrix, products[:, part], scratch.block)  # (16, some tiles, C)
        found = found.unflatten(1, results.shape[:3]).unflatten(0, (_TILE, _TILE)).permute(2, 3, 4, 0, 1, 5)
        if first:
            results.copy_(found)
        else:
            results.add_(found)


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
        self.weights, self.signals, self.products, self.block = _Room(), _Room(), _Room(), _Room()


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


def _cells_at_once(weight: Tensor) -> Iterator[slice]:
    """Divide the cells so that their transformed weights are not too large."""
    count = max(1, _WEIGHTS // (4 * weight.shape[0] * weight.shape[1]))
    count = -(-_CELLS // -(-_CELLS // count))
    for first in range(0, _CELLS, count):
        yield slice(first, first + count)


def _parts(padded: Tensor, x: Tensor, cells: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide signals (K, h, w, out) and results (K, in, h', w') so that transforms are not too large.

    Yield overlapping tiles (units, rows, columns, 6, 6, out), and where their results belong,
    (units, rows, columns, 4, 4, in), both without copying.
    """
    ahead = padded.unfold(1, _SIDE, _TILE).unfold(2, _SIDE, _TILE).permute(0, 1, 2, 4, 5, 3)
    behind = x.permute(0, 2, 3, 1).unflatten(2, (-1, _TILE)).unflatten(1, (-1, _TILE))
    behind = behind.permute(0, 1, 3, 2, 4, 5)
    for block, _ in _blocks(ahead.shape, 4 * cells * max(ahead.shape[5], behind.shape[5]), _SIGNALS):
        yield ahead[block], behind[block]


def _blocks(shape: Sequence[int], tile: int, most: int) -> Iterator[tuple[tuple[slice, slice], slice]]:
    """Divide tiles (units, rows, columns, ...) into blocks of at most `most` bytes, but at least a row.

    Yield the ranges of units and rows of each block, and the range of its tiles among all. They follow each
    other, because a block has several units only if it has all of their rows. `tile` is the size of a tile
    in bytes.
    """
    units, rows, columns = shape[:3]
    some_rows = min(rows, max(1, most // (tile * columns)))
    some_units = max(1, most // (tile * columns * some_rows)) if some_rows == rows else 1
    for unit in range(0, units, some_units):
        past_unit = min(unit + some_units, units)
        for row in range(0, rows, some_rows):
            past_row = min(row + some_rows, rows)
            first = (unit * rows + row) * columns
            past = first + (past_unit - unit) * (past_row - row) * columns
            yield (slice(unit, past_unit), slice(row, past_row)), slice(first, past)


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
