"""Parts of a memory: where a view lies in another tensor, and the operations that lead from one to the other.

Tensors that share memory are parts of one tensor, the *root*. After a write into one part, the root has a new
value, and every other part is read from it again. `section` states where a part lies, as a product of ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

aten = torch.ops.aten

Geometry = tuple[int, torch.dtype, tuple[int, ...], tuple[int, ...]]
"""Offset, dtype, shape and strides of a tensor in its memory."""

Calls = list[tuple[Any, tuple[Any, ...]]]
"""View operations, each with its arguments after the tensor."""


@dataclass
class Memory:
    """The values of the tensors that share a memory, by their geometry."""

    reference: StorageWeakRef
    root: Geometry
    values: dict[Geometry, int] = field(default_factory=dict)
    lost: bool = False  # whether it contains a write that cannot be followed

    def root_in(self, tensor: Tensor) -> Tensor:
        """Return the root as a view of a tensor that shares this memory."""
        offset, _, shape, strides = self.root
        return tensor.as_strided(shape, strides, offset)


def geometry(tensor: Tensor) -> Geometry:
    """Return where a tensor lies in its memory."""
    offset: Any = tensor.storage_offset()
    return offset, tensor.dtype, tensor.shape, tensor.stride()


def root_of(tensor: Tensor) -> Geometry:
    """Return the geometry of the tensor of which a tensor is a view; its own if it is not a view."""
    base = tensor._base
    return geometry(tensor if base is None or base.dtype != tensor.dtype else base)


@dataclass(frozen=True)
class Section:
    """A part of a tensor: a range of each dimension, and the order of its dimensions in a view."""

    shape: tuple[int, ...]  # of the whole tensor
    ranges: tuple[range, ...]
    dims: tuple[int | None, ...]  # for each dimension of the view: that of the tensor; None for a new one
    lengths: tuple[int, ...]  # of the dimensions of the view

    @property
    def whole(self) -> bool:
        """Whether the part is the whole tensor, possibly with its dimensions in another order."""
        return all([len(some) == length for some, length in zip(self.ranges, self.shape, strict=True)])

    def reading(self) -> Calls:
        """Return the view operations that lead from the tensor to the view."""
        calls: Calls = []
        for dim, (some, length) in enumerate(zip(self.ranges, self.shape, strict=True)):
            if dim in self.dims and len(some) < length:
                calls.append((aten.slice.Tensor, (dim, some.start, some[-1] + 1, some.step)))
        for dim in reversed(self._selected):
            calls.append((aten.select.int, (dim, self.ranges[dim].start)))
        if self._order != sorted(self._order):
            calls.append((aten.permute.default, (self._order,)))
        calls += [(aten.unsqueeze.default, (at,)) for at in self._new]
        if any([self.lengths[at] > 1 for at in self._new]):
            calls.append((aten.expand.default, (list(self.lengths),)))
        return calls

    def laying(self) -> Calls:
        """Return the view operations that bring the dimensions of the view into the order of the tensor."""
        calls: Calls = [(aten.squeeze.dim, (at,)) for at in reversed(self._new)]
        if self._order != sorted(self._order):
            calls.append((aten.permute.default, ([self._order.index(n) for n in sorted(self._order)],)))
        return calls + [(aten.unsqueeze.default, (dim,)) for dim in self._selected]

    @property
    def _new(self) -> list[int]:
        """Dimensions of the view that the tensor does not have."""
        return [at for at, dim in enumerate(self.dims) if dim is None]

    @property
    def _selected(self) -> list[int]:
        """Dimensions of the tensor that the view does not have."""
        return [dim for dim in range(len(self.shape)) if dim not in self.dims]

    @property
    def _order(self) -> list[int]:
        """The other dimensions of the view, as dimensions of the tensor without the selected ones."""
        kept = [dim for dim in range(len(self.shape)) if dim in self.dims]
        return [kept.index(dim) for dim in self.dims if dim is not None]


def section(root: Geometry, view: Geometry) -> Section | None:
    """Return where a view lies in a tensor; None if it is not a product of ranges of the dimensions.

    A dimension that a reshape has joined with another one, or split in two, has no range in general.
    """
    (first, dtype, shape, strides), (offset, view_dtype, lengths, steps) = root, view
    if dtype != view_dtype or 0 in shape or 0 in lengths or not _nested(shape, strides):
        return None
    starts = _starts(shape, strides, offset - first)
    if starts is None:
        return None
    dims: list[int | None] = []
    ranges: dict[int, range] = {}
    for length, step in zip(lengths, steps, strict=True):
        dim = _dimension(shape, strides, step) if length > 1 and step > 0 else None
        dims.append(dim)
        if length == 1 or step == 0:
            continue
        if dim is None or dim in ranges or step % strides[dim]:
            return None
        every = step // strides[dim]
        ranges[dim] = range(starts[dim], starts[dim] + every * (length - 1) + 1, every)
        if ranges[dim][-1] >= shape[dim]:
            return None
    _match_single(dims, lengths, shape, set(ranges))
    all_ranges = [ranges.get(dim, range(start, start + 1)) for dim, start in enumerate(starts)]
    return Section(tuple(shape), tuple(all_ranges), tuple(dims), tuple(lengths))


def _nested(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return whether each step along a dimension leaves the positions of all smaller strides behind."""
    pairs = sorted((step, length) for length, step in zip(shape, strides, strict=True) if length > 1)
    reach = 1
    for step, length in pairs:
        if step < reach:
            return False
        reach = step * length
    return True


def _starts(shape: tuple[int, ...], strides: tuple[int, ...], distance: int) -> list[int] | None:
    """Return the position that lies at a distance from the first number of a tensor; None if none does."""
    starts = [0] * len(shape)
    if distance < 0:
        return None
    for dim in sorted(range(len(shape)), key=lambda dim: -strides[dim]):
        if shape[dim] > 1:
            starts[dim], distance = divmod(distance, strides[dim])
            if starts[dim] >= shape[dim]:
                return None
    return None if distance else starts


def _dimension(shape: tuple[int, ...], strides: tuple[int, ...], step: int) -> int | None:
    """Return the dimension along which a step of a view moves: that with the largest stride up to it."""
    possible = [dim for dim, length in enumerate(shape) if length > 1 and strides[dim] <= step]
    return max(possible, key=lambda dim: strides[dim], default=None)


def _match_single(
    dims: list[int | None], lengths: tuple[int, ...], shape: tuple[int, ...], used: set[int]
) -> None:
    """Assign dimensions of length 1 of a view to dimensions of the tensor of which it has one position.

    If both have as many dimensions, each is assigned to the one at its place. Otherwise only the first is,
    because it usually is the batch.
    """
    for at, length in enumerate(lengths):
        alike = len(lengths) == len(shape) or (at == 0 and shape[0] == 1)
        if length == 1 and alike and at not in used and at not in dims:
            dims[at] = at
