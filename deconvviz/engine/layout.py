"""The layout of a value (its shape, and where its rows and columns are), and the window that holds a signal.

A unit sees only its receptive field, so its signal needs no more of a map than a window around that.
Rules are written with these types; which window a unit needs is computed in `receptive_fields`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Seen = tuple[Tensor, Tensor]
"""(K, H) and (K, W) bool: the rows and columns of a map that K units see."""

Axes = tuple[int, int]
"""Which dimensions are rows and columns, the batch counted as 0."""


@dataclass(frozen=True)
class TensorLayout:
    """The shape of a value for one picture, and where in it the rows and columns of a map are."""

    shape: tuple[int, ...]  # (C, H, W) for most maps
    axes: Axes | None  # (2, 3) for most maps, (1, 2) with channels last; None: no map of rows and columns
    folded: int = 0  # so many dimensions the network has folded into its batch: (B * H * W, C) from (H, W, C)
    batch_at: int = 0  # which dimension of the network's own tensor is the batch
    joint: int | None = None  # the dimension in which rows and columns lie one after the other: (C, H * W)
    grid: tuple[int, int] = (1, 1)  # rows and columns of the joint dimension
    mixed: frozenset[int] = frozenset()  # dimensions that hold positions in an order that is not followed

    @classmethod
    def of(cls, shape: Sequence[int]) -> TensorLayout:
        """A map, if it has the dimensions of one."""
        return cls(tuple(shape), (2, 3) if len(shape) == 3 else None)

    @property
    def lengths(self) -> tuple[int, int]:
        """Rows and columns; one of each if it is no map."""
        if self.joint is not None:
            return self.grid
        return (self.shape[self.axes[0] - 1], self.shape[self.axes[1] - 1]) if self.axes else (1, 1)

    @property
    def place(self) -> tuple[Axes | None, int | None, tuple[int, int]]:
        """Where the rows and columns are; equal for two values whose positions correspond."""
        return self.axes, self.joint, self.grid

    @property
    def positions(self) -> frozenset[int]:
        """The dimensions that hold rows and columns."""
        joint = () if self.joint is None else (self.joint,)
        return self.mixed | frozenset(joint) | frozenset(self.axes or ())

    def standing_order(self) -> list[int]:
        """The dimensions in the order in which the network's own tensor has the numbers of one picture."""
        folded, rest = self.folded, len(self.shape) - self.folded
        before = range(folded + 1, folded + 1 + self.batch_at)
        return [*before, *range(1, folded + 1), *range(folded + 1 + self.batch_at, folded + rest + 1)]

    def standing(self) -> TensorLayout:
        """The same with its dimensions in that order."""
        order = self.standing_order()
        moved = self.moved(lambda dim: 1 + order.index(dim))
        shape = tuple(self.shape[dim - 1] for dim in order)
        return replace(moved, shape=shape, folded=0, batch_at=0)

    def moved(self, new_place: Callable[[int], int | None]) -> TensorLayout:
        """The same with each dimension at a new place; what has no place any more is no longer followed."""
        axes = tuple(new_place(dim) for dim in self.axes or ())
        joint = None if self.joint is None else new_place(self.joint)
        mixed = {new for dim in self.mixed if (new := new_place(dim)) is not None}
        if None in axes:
            mixed |= {new for new in axes if new is not None}
            axes = ()
        return replace(
            self,
            axes=(axes[0], axes[1]) if axes else None,  # type: ignore[arg-type]
            joint=joint,
            grid=self.grid if joint is not None else (1, 1),
            mixed=frozenset(mixed),
        )

    def without(self, changed: Collection[int], *, keep: bool = False) -> TensorLayout:
        """The same where rows and columns are not followed if they lie along a dimension that was changed.

        With `keep` such a dimension still holds every position there is, in another order or beside others.
        """
        lost = self.joint if self.joint in changed else None
        mixed = self.mixed - set(changed) if not keep else self.mixed
        if lost is None:
            return replace(self, mixed=mixed)
        return replace(self, joint=None, grid=(1, 1), mixed=mixed | {lost} if keep else mixed)

    def real(self, batch: int) -> tuple[int, ...]:
        """The shape that the network's own tensor has."""
        pictures, rest = batch * math.prod(self.shape[: self.folded]), self.shape[self.folded :]
        return (*rest[: self.batch_at], pictures, *rest[self.batch_at :])

    @property
    def channels_last(self) -> bool:
        return self.axes == (1, 2) and len(self.shape) == 3

    def channels_first(self, tensor: Tensor) -> Tensor:
        """(B, H, W, C) to (B, C, H, W), where the network has its channels last."""
        return tensor.movedim(-1, 1) if self.channels_last else tensor

    def laid_out(self, tensor: Tensor) -> Tensor:
        """(B, C, H, W) to the order of dimensions that the network uses here."""
        return tensor.movedim(1, -1) if self.channels_last else tensor

    def dim(self, real: int) -> int:
        """Which dimension of (B, *shape) one of the network's own tensor is; the batch is 0."""
        real = real % (1 + len(self.shape) - self.folded)
        return 0 if real == self.batch_at else self.folded + real + (real < self.batch_at)


@dataclass(frozen=True)
class Window:
    """Where the signals of K units lie in a value: one size for all, and one start for each.

    What has no rows and columns of its own (a vector of a fully connected layer, a map laid out in one
    dimension) is always whole.
    """

    start: Tensor  # (K, 2) int64 on the CPU: first row, first column
    size: tuple[int, int]  # rows, columns
    layout: TensorLayout  # of the whole value
    images: Tensor  # (K,) int64 on the CPU: which picture of the recording each unit belongs to

    @property
    def whole(self) -> bool:
        return self.size == self.layout.lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one unit's signal."""
        shape = list(self.layout.shape)
        if self.layout.axes:
            for axis, length in zip(self.layout.axes, self.size, strict=True):
                shape[axis - 1] = length
        return tuple(shape)

    def towards(self, other: Window, axis: int) -> Window:
        """One that lies like another along one axis, and still like this one along the other."""
        start, size = self.start.clone(), list(self.size)
        start[:, axis], size[axis] = other.start[:, axis], other.size[axis]
        return Window(start, (size[0], size[1]), other.layout, self.images)

    def cut(self, kept: Tensor) -> Tensor:
        """(B, *form.shape), recorded, to (K, *shape): each unit's own picture, in its own window.

        Where a dimension of `kept` is 1, so it stays: one number for a whole axis, or for all pictures.
        """
        images = [0] * len(self.images) if len(kept) == 1 else self.images.tolist()
        spans = [
            (axis, number, length)
            for number, (axis, length) in enumerate(zip(self.layout.axes or (), self.size, strict=False))
            if kept.shape[axis] > 1 and length != kept.shape[axis]
        ]
        if not spans:
            if len(set(images)) == 1:
                return kept[images[0]].expand(len(images), *kept.shape[1:])
            return kept[torch.tensor(images, device=kept.device)]
        parts = []
        for image, corner in zip(images, self.start.tolist(), strict=True):
            part = kept[image]
            for axis, number, length in spans:
                part = part.narrow(axis - 1, corner[number], length)
            parts.append(part)
        return torch.stack(parts)

    def place(self, signal: Tensor, start: Tensor) -> Tensor:
        """Signals (K, ...) whose first row and column lie at position ``start[k]``, to (K, *shape) here.

        What lies outside of the window is dropped, what is missing is zero.
        """
        assert self.layout.axes is not None
        shift = start - self.start  # (K, 2)
        if bool((shift == shift[0]).all()):
            return _pad(signal, self.layout.axes, shift[0].tolist(), self.size)
        placed = empty(signal, (len(signal), *self.shape))
        rows, columns = self.layout.axes
        for k, (dy, dx) in enumerate(shift.tolist()):
            y, from_y, high = _overlap(dy, signal.shape[rows], self.size[0])
            x, from_x, wide = _overlap(dx, signal.shape[columns], self.size[1])
            if (high, wide) != self.size:
                placed[k].zero_()
            here = placed[k].narrow(rows - 1, y, high).narrow(columns - 1, x, wide)
            here.copy_(signal[k].narrow(rows - 1, from_y, high).narrow(columns - 1, from_x, wide))
        return placed


def signal_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of signals at a value of some type: single or double precision."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Of the type and on the device of another, laid out as `empty` is."""
    return empty(like, shape).zero_()


def empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Room for a signal; for maps as a CPU convolves them quickest, position by position."""
    maps = len(shape) == 4 and like.device.type == "cpu"
    layout = torch.channels_last if maps else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _pad(signal: Tensor, axes: Axes, shift: Sequence[int], size: tuple[int, int]) -> Tensor:
    """One shift for all: pad and crop."""
    pads = [0, 0] * (signal.dim() - min(axes))
    for axis, moved, length in zip(axes, shift, size, strict=True):
        there = signal.shape[axis]
        if moved <= -there or moved >= length:  # all of it lies outside; `pad` cannot crop so much
            shape = list(signal.shape)
            for dim, wanted in zip(axes, size, strict=True):
                shape[dim] = wanted
            return zeros(signal, shape)
        place = 2 * (signal.dim() - 1 - axis)
        pads[place], pads[place + 1] = moved, length - moved - there
    return torch.nn.functional.pad(signal, pads) if any(pads) else signal


def _overlap(shift: int, there: int, here: int) -> tuple[int, int, int]:
    """What 0 .. there, moved by shift, covers of 0 .. here: where that begins here, and there; its length."""
    first, last = max(0, shift), min(here, there + shift)
    return (first, first - shift, last - first) if last > first else (0, 0, 0)
