"""Index maps: which input positions an output position depends on, along rows or along columns.

A convolution has a sliding window. The windows of an upsampling repeat every few positions.
The index map of a whole network is the composition of those of its operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import Final

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_LONGEST_PERIOD = 4096  # a map with a longer period is treated as unknown


@dataclass(frozen=True)
class PeriodicIntervals:
    """Index map whose intervals repeat with a fixed period.

    Output position ``q * len(bounds) + r`` depends on the input positions from ``first + q * advance`` to
    ``past + q * advance``, where (first, past) is ``bounds[r]``. Intervals are half open and ignore the
    borders of the input.
    """

    bounds: tuple[tuple[int, int], ...]
    advance: int

    @property
    def size(self) -> int:
        """Length of the longest interval."""
        return max(past - first for first, past in self.bounds)

    @property
    def stride(self) -> Fraction:
        """Distance in input positions between neighbouring output positions."""
        return Fraction(self.advance, len(self.bounds))

    def place(self, position: int) -> tuple[int, int]:
        """Return the interval of an output position: its first input position, and one past the last."""
        turns, phase = divmod(position, len(self.bounds))
        first, past = self.bounds[phase]
        return first + turns * self.advance, past + turns * self.advance

    def over(self, below: PeriodicIntervals) -> PeriodicIntervals | None:
        """Return the composition with an index map below this one; None if its period is too long."""
        turns = len(below.bounds) // gcd(self.advance, len(below.bounds))
        period = turns * len(self.bounds)
        if period > _LONGEST_PERIOD:
            return None
        bounds = []
        for position in range(period):
            first, past = self.place(position)
            begin = below.place(first)[0]
            bounds.append((begin, below.place(past - 1)[1] if past > first else begin))
        return PeriodicIntervals(tuple(bounds), self.advance * turns // len(below.bounds) * below.advance)

    def __or__(self, other: PeriodicIntervals) -> PeriodicIntervals | None:
        """Return the smallest index map that covers both; None if their strides differ."""
        period = len(self.bounds) * len(other.bounds) // gcd(len(self.bounds), len(other.bounds))
        if self.stride != other.stride or period > _LONGEST_PERIOD:
            return None
        bounds = tuple(_hull(self.place(o), other.place(o)) for o in range(period))
        return PeriodicIntervals(bounds, int(self.stride * period))


class Unknown(Enum):
    """Type of `UNKNOWN`."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
"""The input positions are unknown. In contrast, None means the whole axis."""

IndexMap = PeriodicIntervals | None | Unknown
"""Input positions of each output position along one axis: intervals, the whole axis (None), or unknown."""


def through(upper: IndexMap, lower: IndexMap) -> IndexMap:
    """Return the composition of two index maps; `lower` is the one nearer to the image."""
    if upper is None or lower is None:
        return None
    if isinstance(upper, Unknown) or isinstance(lower, Unknown):
        return UNKNOWN
    return upper.over(lower) or UNKNOWN


def _hull(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest range that contains both ranges. Empty ranges are ignored."""
    if one[0] >= one[1] or other[0] >= other[1]:
        return other if one[0] >= one[1] else one
    return min(one[0], other[0]), max(one[1], other[1])


def union(index_maps: Sequence[IndexMap]) -> IndexMap:
    """Return the union of the index maps of several branches; unknown if their strides differ."""
    found = index_maps[0]
    for index_map in index_maps[1:]:
        if found is None or index_map is None:
            found = None
        elif isinstance(found, Unknown) or isinstance(index_map, Unknown):
            found = UNKNOWN
        else:
            found = (found | index_map) or UNKNOWN
    return found


@dataclass(frozen=True)
class SlidingWindow:
    """Window of an operation that slides over an axis.

    Output position o depends on the input positions ``o * stride - padding + dilation * t`` for t from 0 to
    ``kernel - 1``.
    """

    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Number of positions from the first to the last, inclusive."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def index_map(self) -> PeriodicIntervals:
        return PeriodicIntervals(((-self.padding, self.extent - self.padding),), self.stride)

    @property
    def transposed(self) -> PeriodicIntervals:
        """Index map of the transposed operation: the output positions o that depend on input position i."""
        bounds = []
        for i in range(self.stride):
            last = (i + self.padding) // self.stride
            first = -((self.extent - 1 - i - self.padding) // self.stride)
            bounds.append((first, last + 1))
        return PeriodicIntervals(tuple(bounds), 1)

    def visible_inputs(self, n_out: int, n_in: int) -> Tensor:
        """Return the (n_out, n_in) bool matrix of the input positions of each output position, less padding.

        Do not write to the result: it is cached.
        """
        return _visible_inputs(self, n_out, n_in)


@lru_cache(maxsize=128)  # each step of each projection needs it, with few different shapes
def _visible_inputs(slide: SlidingWindow, n_out: int, n_in: int) -> Tensor:
    o = torch.arange(n_out, device="cpu")[:, None]
    t = torch.arange(slide.kernel, device="cpu")
    seen = o * slide.stride - slide.padding + slide.dilation * t  # (n_out, kernel)
    inside = (seen >= 0) & (seen < n_in)
    matrix = torch.zeros(n_out, n_in, dtype=torch.bool, device="cpu")
    matrix[o.expand_as(seen)[inside], seen[inside]] = True
    return matrix


SAME = SlidingWindow().index_map
"""Each position depends only on itself."""


def hull(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first True in each row of (K, n) and one past the last, (K,) each; 0, 0 if there is none."""
    n = seen.shape[1]
    some = seen.any(dim=1)
    first = seen.int().argmax(dim=1)
    past = n - seen.flip(1).int().argmax(dim=1)
    return torch.where(some, first, 0), torch.where(some, past, 0)


_ends: WeakIdKeyDictionary = WeakIdKeyDictionary()


def ends_of(visible: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the first and past input of each output position of a matrix, (n_out,) each.

    None if a position has none, or if they do not increase from position to position: the inputs of several
    positions are then not between those of the first and the last. Kept as long as the matrix.
    """
    if visible not in _ends:
        first, past = hull(visible)
        increase = all(bool((ends[1:] >= ends[:-1]).all()) for ends in (first, past))
        _ends[visible] = (first, past) if increase and bool((first < past).all()) else None
    found: tuple[Tensor, Tensor] | None = _ends[visible]
    return found
