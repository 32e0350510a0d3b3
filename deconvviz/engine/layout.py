"""The layout of a value (its shape and the place of its positions) and the windows of signals.

A network has one axis of positions for signals (C, T), two for images (C, H, W): rows and columns, and three
for volumes and video (C, D, H, W). An axis is numbered as in the network's input, also in maps that have
fewer axes, such as the mean of a video over time.

A unit depends only on its receptive field, so its signal needs only a window of each map below it. Rules are
written with these types. `receptive_fields` computes which window a unit needs.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby

import torch
from torch import Tensor

Seen = tuple[Tensor, ...]
"""For each axis (K, n) bool: the positions of a map that each of K units depends on."""

Axes = tuple[int | None, ...]
"""For each axis of the network's input, the dimension of the value that holds it; None if there is none.

(2, 3) for images: rows and columns. Dimension 0 is the batch.
"""


@dataclass(frozen=True)
class TensorLayout:
    """The shape of a value for one image, and which of its dimensions are the axes of a map.

    The network's own tensor may have another shape: its batch may include leading dimensions of `shape`
    (`folded`), or may not be its first dimension (`batch_at`).
    """

    shape: tuple[int, ...]  # (C, H, W) for most maps
    axes: Axes | None  # (2, 3) for most maps, (1, 2) for channels last, None if there are no positions
    folded: int = 0  # number of leading dimensions folded into the batch: 2 if (H, W, C) is (B * H * W, C)
    batch_at: int = 0  # the batch dimension of the network's own tensor
    joint: int | None = None  # the dimension that contains all flattened axes: 2 for (C, H * W)
    grid: tuple[int, ...] = ()  # lengths of the axes in the joint dimension
    mixed: frozenset[int] = frozenset()  # dimensions that contain positions in an unknown order
    spatial: int = 2  # number of axes of the network's input: 1 for signals, 3 for volumes

    @staticmethod
    def of(shape: Sequence[int], spatial: int = 2) -> TensorLayout:
        """Return the layout of a shape without the batch: a map if it is (C, *positions), else without axes.

        `spatial` is the number of axes of the network's input. A rule calls `like` instead, which knows it.
        """
        return _of_shape(tuple(shape), spatial)

    @staticmethod
    def of_input(shape: Sequence[int]) -> TensorLayout:
        """Return the layout of the network's input: (C, T), (C, H, W) or (C, D, H, W)."""
        return _of_shape(tuple(shape), len(shape) - 1 if len(shape) in (2, 4) else 2)

    def like(self, shape: Sequence[int]) -> TensorLayout:
        """Return the layout of another shape in the same network, as `of`."""
        return _of_shape(tuple(shape), self.spatial)

    def unplaced(self, shape: Sequence[int], *, folded: int = 0, batch_at: int = 0) -> TensorLayout:
        """Return the layout of another shape in the same network, without axes."""
        return TensorLayout(tuple(shape), None, folded, batch_at, spatial=self.spatial)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of positions along each axis; 1 for an axis that the value does not have."""
        if self.joint is not None:
            return self.grid
        if self.axes is None:
            return (1,) * self.spatial
        return tuple([1 if dim is None else self.shape[dim - 1] for dim in self.axes])

    @property
    def tracked(self) -> tuple[int, ...]:
        """Numbers of the axes that are dimensions of the value: (0, 1) for a map of an image."""
        return tuple([axis for axis, dim in enumerate(self.axes or ()) if dim is not None])

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of the axes in `tracked`."""
        return tuple([dim for dim in self.axes or () if dim is not None])

    @property
    def is_map(self) -> bool:
        """Whether the value is a map of channels (C, *positions), or (*positions, C)."""
        last = len(self.shape)
        return last > 1 and self.dims in (tuple(range(2, last + 1)), tuple(range(1, last)))

    @property
    def place(self) -> tuple[Axes | None, int | None, tuple[int, ...]]:
        """Where the positions are. Equal for two values whose positions correspond."""
        return self.axes, self.joint, self.grid

    @property
    def positions(self) -> frozenset[int]:
        """Dimensions that contain positions."""
        joint = () if self.joint is None else (self.joint,)
        return self.mixed | frozenset(joint) | frozenset(self.dims)

    def axis_of(self, dim: int) -> int | None:
        """Return the number of the axis that a dimension holds; None if it holds none."""
        return self.axes.index(dim) if self.axes and dim in self.axes else None

    def network_order(self) -> list[int]:
        """Return the dimensions of `shape`, counted from 1, in the order of the network's own tensor."""
        folded, rest = self.folded, len(self.shape) - self.folded
        before = range(folded + 1, folded + 1 + self.batch_at)
        return [*before, *range(1, folded + 1), *range(folded + 1 + self.batch_at, folded + rest + 1)]

    def in_network_order(self) -> TensorLayout:
        """Return this layout with its dimensions in the order of the network's own tensor."""
        order = self.network_order()
        moved = self.moved(lambda dim: 1 + order.index(dim))
        shape = tuple(self.shape[dim - 1] for dim in order)
        return replace(moved, shape=shape, folded=0, batch_at=0)

    def moved(self, new_place: Callable[[int], int | None]) -> TensorLayout:
        """Return this layout with its dimensions renumbered. `new_place` returns None for a removed one."""
        axes = tuple([None if dim is None else new_place(dim) for dim in self.axes or ()])
        joint = None if self.joint is None else new_place(self.joint)
        mixed = [new for dim in self.mixed if (new := new_place(dim)) is not None]
        grid = self.grid if joint is not None else ()
        return replace(self.with_axes(axes, mixed), joint=joint, grid=grid)

    @property
    def may_lose_axes(self) -> bool:
        """Whether a map without one of its axes is still a map, such as the mean of a video over time.

        In networks for images it is not: there the axes of many values are guessed from their shape (`like`),
        and what is left of them would be taken for maps.
        """
        return self.spatial > 2

    def with_axes(self, axes: Axes, mixed: Iterable[int] = ()) -> TensorLayout:
        """Return this layout with other axes, of which some may be None, and with other mixed dimensions."""
        left = [dim for dim in axes if dim is not None]
        if not left or (None in axes and not self.may_lose_axes):
            return replace(self, axes=None, mixed=frozenset([*mixed, *left]))
        return replace(self, axes=axes, mixed=frozenset(mixed))

    def without(self, changed: Collection[int], *, keep: bool = False) -> TensorLayout:
        """Return this layout after a call that changed some dimensions: a joint one among them is forgotten.

        `keep` states that such a dimension still contains every position, in another order or together with
        other entries; it is then `mixed`.
        """
        lost = self.joint if self.joint in changed else None
        mixed = self.mixed - set(changed) if not keep else self.mixed
        if lost is None:
            return replace(self, mixed=mixed)
        return replace(self, joint=None, grid=(), mixed=mixed | {lost} if keep else mixed)

    def network_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the network's own tensor for a batch of images."""
        if not self.folded and not self.batch_at:
            return (batch, *self.shape)
        folded_batch, rest = batch * math.prod(self.shape[: self.folded]), self.shape[self.folded :]
        return (*rest[: self.batch_at], folded_batch, *rest[self.batch_at :])

    @property
    def channels_last(self) -> bool:
        return self.is_map and self.dims[0] == 1

    def channels_first(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the network as (B, C, *positions), moving channels if they are last."""
        return tensor.movedim(-1, 1) if self.channels_last else tensor

    def from_channels_first(self, tensor: Tensor) -> Tensor:
        """Return a tensor (B, C, *positions) in the order of dimensions of the network for this value."""
        return tensor.movedim(1, -1) if self.channels_last else tensor

    def dim(self, network_dim: int) -> int:
        """Return the dimension of (B, *shape) for a dimension of the network's own tensor. 0 is the batch."""
        network_dim = network_dim % (1 + len(self.shape) - self.folded)
        if network_dim == self.batch_at:
            return 0
        return self.folded + network_dim + (network_dim < self.batch_at)


@lru_cache(maxsize=4096)
def _of_shape(shape: tuple[int, ...], spatial: int) -> TensorLayout:
    axes = tuple(range(2, spatial + 2)) if len(shape) == spatial + 1 else None
    return TensorLayout(shape, axes or None, spatial=spatial)


@dataclass(frozen=True)
class Window:
    """Window of each of K units in a value: a common size, and one offset per unit.

    A value whose axes are not separate dimensions (a vector, a flattened map) is always whole.
    """

    start: Tensor  # (K, axes) int64 on the CPU: first position along each axis
    size: tuple[int, ...]  # number of positions along each axis
    layout: TensorLayout  # layout of the whole value
    image_indices: Tensor  # (K,) int64 on the CPU: which image of the recording each unit belongs to

    @staticmethod
    def all_of(layout: TensorLayout, image_indices: Tensor) -> Window:
        """Return windows that contain the whole value."""
        start = torch.zeros(len(image_indices), layout.spatial, dtype=torch.long)
        return Window(start, layout.lengths, layout, image_indices)

    @property
    def whole(self) -> bool:
        return self.size == self.layout.lengths

    @cached_property
    def corners(self) -> list[list[int]]:
        """`start` as a list, to compute with few numbers."""
        found: list[list[int]] = self.start.tolist()
        return found

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the signal of one unit."""
        shape = list(self.layout.shape)
        for dim, length in zip(self.layout.axes or (), self.size, strict=False):
            if dim is not None:
                shape[dim - 1] = length
        return tuple(shape)

    @cached_property
    def count(self) -> int:
        """Number of entries in the signal of one unit."""
        return math.prod(self.shape)

    def towards(self, other: Window, axis: int) -> Window:
        """Return this window with its positions along one axis replaced by those of another."""
        start, size = self.start.clone(), list(self.size)
        start[:, axis], size[axis] = other.start[:, axis], other.size[axis]
        return Window(start, tuple(size), other.layout, self.image_indices)

    def cut(self, kept: Tensor) -> Tensor:
        """Cut each unit's image and window out of a recorded tensor: (B, *layout.shape) to (K, *shape).

        Dimensions of length 1, which are broadcast, keep their length. A batch of 1 is used for all images.
        """
        images = [0] * len(self.image_indices) if len(kept) == 1 else self.image_indices.tolist()
        spans = [
            (dim, number, length)
            for number, (dim, length) in enumerate(zip(self.layout.axes or (), self.size, strict=False))
            if dim is not None and kept.shape[dim] > 1 and length != kept.shape[dim]
        ]
        if not spans:
            if len(set(images)) == 1:
                return kept[images[0]].expand(len(images), *kept.shape[1:])
            return kept[torch.tensor(images, device=kept.device)]
        like = kept[0]
        for dim, _, length in spans:
            like = like.narrow(dim - 1, 0, length)
        last = kept.dim() == 4 and kept.is_contiguous(memory_format=torch.channels_last)
        like = like.movedim(0, -1) if last else like  # parts in the same format
        strides: tuple[int, ...] = kept.stride()
        parts = []
        for image, corner in zip(images, self.corners, strict=True):  # faster than `narrow` along each axis
            offset = sum([corner[number] * strides[dim] for dim, number, _ in spans])
            first = kept.storage_offset() + image * strides[0] + offset
            parts.append(kept.as_strided(like.shape, like.stride(), first))
        return torch.stack(parts).movedim(-1, 1) if last else torch.stack(parts)

    def place(self, signal: Tensor, start: Tensor) -> Tensor:
        """Move signals (K, ...), whose first position is ``start[k]``, into this window: (K, *shape).

        Parts outside the window are dropped. The rest of the window is zero.
        """
        dims, shift, size = self._move(start)
        return moved(signal, dims, shift, size)

    def add(self, signal: Tensor, start: Tensor, to: Tensor) -> None:
        """Add signals (K, ...), whose first position is ``start[k]``, to others that fill this window."""
        dims, shift, _ = self._move(start)
        for _, here, there, _ in _pieces(to, signal, dims, _runs(shift.tolist())):
            here.add_(there)

    def _move(self, start: Tensor) -> tuple[Sequence[int], Tensor, Sequence[int]]:
        """Return the dimensions of the axes, `start` relative to this window, and its size along them."""
        axes, shift = self.layout.axes, start - self.start  # (K, axes)
        assert axes is not None
        own = self.layout.tracked
        if len(own) == len(axes):
            return self.layout.dims, shift, self.size
        return self.layout.dims, shift[:, own], [self.size[axis] for axis in own]


def moved(signal: Tensor, dims: Sequence[int], shift: Tensor, size: Sequence[int]) -> Tensor:
    """Move signals (K, ...) along some dimensions, each into a range of positions.

    Args:
        signal: Signals of K units.
        dims: The dimensions.
        shift: (K, dims): the new place of the first position of each signal.
        size: Length of the result along each dimension. What is outside is dropped, the rest is zero.
    """
    return moved_by(signal, dims, shift.tolist(), size)


def moved_by(
    signal: Tensor,
    dims: Sequence[int],
    shifts: Sequence[Sequence[int]],
    size: Sequence[int],
    *,
    overwrite: bool = False,
) -> Tensor:
    """Move signals (K, ...), as `moved`, by the shifts of each unit.

    With `overwrite`, the signals may be moved in their own memory. Most of them often stay where they are.
    """
    runs = list(_runs(shifts))
    if len(runs) == 1:
        return _pad(signal, dims, runs[0][1], size)
    if overwrite and all([signal.shape[dim] == length for dim, length in zip(dims, size, strict=True)]):
        for some, own in runs:
            if any(own):
                signal[some] = _pad(signal[some], dims, own, size)
        return signal
    shape = list(signal.shape)
    for dim, length in zip(dims, size, strict=True):
        shape[dim] = length
    placed = empty(signal, shape)
    for some, here, there, fills in _pieces(placed, signal, dims, runs):
        if not fills:
            placed[some].zero_()
        here.copy_(there)
    return placed


def _pieces(
    placed: Tensor, signal: Tensor, dims: Sequence[int], runs: Iterable[tuple[slice, Sequence[int]]]
) -> Iterator[tuple[slice, Tensor, Tensor, bool]]:
    """Yield each run of units, its part of the result, of the signal, and whether that is all of the result.

    `runs` are those of `_runs`.
    """
    for some, own in runs:
        here, there, fills = placed[some], signal[some], True
        for dim, by in zip(dims, own, strict=True):
            length = placed.shape[dim]
            first, start, common = _overlap(by, signal.shape[dim], length)
            fills = fills and common == length
            here, there = here.narrow(dim, first, common), there.narrow(dim, start, common)
        yield some, here, there, fills


def _runs(shifts: Sequence[Sequence[int]]) -> Iterator[tuple[slice, Sequence[int]]]:
    """Yield each run of neighbouring units with the same shift, and the shift."""
    first = 0
    for shift, run in groupby(shifts):
        past = first + len(list(run))
        yield slice(first, past), shift
        first = past


def signal_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the signals for values of a dtype: float64 for float64, else float32.

    The signals of complex values are complex.
    """
    if dtype.is_complex:
        return torch.complex128 if dtype == torch.complex128 else torch.complex64
    return torch.float64 if dtype == torch.float64 else torch.float32


def zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return zeros with the dtype and device of another tensor, in the memory format of `empty`."""
    return empty(like, shape).zero_()


def sparse_zeros(like: Tensor, shape: Sequence[int], dtype: torch.dtype, *, filled: bool = False) -> Tensor:
    """Return zeros on the device of another tensor, which on a CPU need memory only where they are written.

    They do not share the heap with signals, which are of many sizes. The system gets them back as a whole.
    `filled` states that most of them will be written.
    """
    count = math.prod(shape)
    if like.device.type != "cpu" or not count:
        return like.new_zeros(tuple(shape), dtype=dtype)
    pages = _pages(count * dtype.itemsize, large=filled)
    return torch.frombuffer(pages, dtype=dtype, count=count).view(tuple(shape))


def _pages(size: int, *, large: bool) -> mmap.mmap:
    """Return new memory. New pages are slow; large ones are few, but are set to zero as a whole."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared pages are slower
    if large and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return an uninitialised signal; for maps on a CPU in channels-last format, which convolves faster."""
    maps = len(shape) == 4 and like.device.type == "cpu"
    layout = torch.channels_last if maps else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _pad(signal: Tensor, dims: Sequence[int], shift: Sequence[int], size: Sequence[int]) -> Tensor:
    """Move all signals by one shift, by padding and cropping."""
    pads = [0, 0] * (signal.dim() - min(dims))
    for dim, by, length in zip(dims, shift, size, strict=True):
        there = signal.shape[dim]
        if by <= -there or by >= length:  # entirely outside: `pad` cannot crop more than there is
            shape = list(signal.shape)
            for one, wanted in zip(dims, size, strict=True):
                shape[one] = wanted
            return zeros(signal, shape)
        place = 2 * (signal.dim() - 1 - dim)
        pads[place], pads[place + 1] = by, length - by - there
    return torch.nn.functional.pad(signal, pads) if any(pads) else signal


def _overlap(shift: int, there: int, here: int) -> tuple[int, int, int]:
    """Return where a range of length `there`, moved by `shift`, overlaps a range of length `here`.

    The result is the start of the overlap in `here`, its start in `there`, and its length.
    """
    first, last = max(0, shift), min(here, there + shift)
    return (first, first - shift, last - first) if last > first else (0, 0, 0)
