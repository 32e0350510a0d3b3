"""The layout of a value (its shape and the place of its rows and columns) and the windows of signals.

A unit depends only on its receptive field, so its signal needs only a window of each map below it. Rules are
written with these types. `receptive_fields` computes which window a unit needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

Seen = tuple[Tensor, Tensor]
"""(K, H) and (K, W) bool: the rows and columns of a map that each of K units depends on."""

Axes = tuple[int, int]
"""The dimensions that are rows and columns. Dimension 0 is the batch."""


@dataclass(frozen=True)
class TensorLayout:
    """The shape of a value for one image, and which of its dimensions are the rows and columns of a map.

    The network's own tensor may have another shape: its batch may include leading dimensions of `shape`
    (`folded`), or may not be its first dimension (`batch_at`).
    """

    shape: tuple[int, ...]  # (C, H, W) for most maps
    axes: Axes | None  # (2, 3) for most maps, (1, 2) for channels last, None if there are no rows and columns
    folded: int = 0  # number of leading dimensions folded into the batch: 2 if (H, W, C) is (B * H * W, C)
    batch_at: int = 0  # the batch dimension of the network's own tensor
    joint: int | None = None  # the dimension that contains flattened rows and columns: 2 for (C, H * W)
    grid: tuple[int, int] = (1, 1)  # rows and columns of the joint dimension
    mixed: frozenset[int] = frozenset()  # dimensions that contain positions in an unknown order

    @staticmethod
    def of(shape: Sequence[int]) -> TensorLayout:
        """Return the layout of a shape without the batch: a map if it is (C, H, W), else without axes."""
        return _of_shape(tuple(shape))

    @property
    def lengths(self) -> tuple[int, int]:
        """Number of rows and columns; (1, 1) if the value is not a map."""
        if self.joint is not None:
            return self.grid
        return (self.shape[self.axes[0] - 1], self.shape[self.axes[1] - 1]) if self.axes else (1, 1)

    @property
    def place(self) -> tuple[Axes | None, int | None, tuple[int, int]]:
        """Where the rows and columns are. Equal for two values whose positions correspond."""
        return self.axes, self.joint, self.grid

    @property
    def positions(self) -> frozenset[int]:
        """Dimensions that contain rows, columns or both."""
        joint = () if self.joint is None else (self.joint,)
        return self.mixed | frozenset(joint) | frozenset(self.axes or ())

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
        """Return this layout after a call that changed some dimensions: a joint one among them is forgotten.

        `keep` states that such a dimension still contains every position, in another order or together with
        other entries; it is then `mixed`.
        """
        lost = self.joint if self.joint in changed else None
        mixed = self.mixed - set(changed) if not keep else self.mixed
        if lost is None:
            return replace(self, mixed=mixed)
        return replace(self, joint=None, grid=(1, 1), mixed=mixed | {lost} if keep else mixed)

    def network_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the network's own tensor for a batch of images."""
        if not self.folded and not self.batch_at:
            return (batch, *self.shape)
        folded_batch, rest = batch * math.prod(self.shape[: self.folded]), self.shape[self.folded :]
        return (*rest[: self.batch_at], folded_batch, *rest[self.batch_at :])

    @property
    def channels_last(self) -> bool:
        return self.axes == (1, 2) and len(self.shape) == 3

    def channels_first(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the network as (B, C, H, W), moving channels if they are last."""
        return tensor.movedim(-1, 1) if self.channels_last else tensor

    def from_channels_first(self, tensor: Tensor) -> Tensor:
        """Return a tensor (B, C, H, W) in the order of dimensions that the network uses for this value."""
        return tensor.movedim(1, -1) if self.channels_last else tensor

    def dim(self, network_dim: int) -> int:
        """Return the dimension of (B, *shape) for a dimension of the network's own tensor. 0 is the batch."""
        network_dim = network_dim % (1 + len(self.shape) - self.folded)
        if network_dim == self.batch_at:
            return 0
        return self.folded + network_dim + (network_dim < self.batch_at)


@lru_cache(maxsize=4096)
def _of_shape(shape: tuple[int, ...]) -> TensorLayout:
    return TensorLayout(shape, (2, 3) if len(shape) == 3 else None)


@dataclass(frozen=True)
class Window:
    """Window of each of K units in a value: a common size, and one offset per unit.

    A value whose rows and columns are not separate dimensions (a vector, a flattened map) is always whole.
    """

    start: Tensor  # (K, 2) int64 on the CPU: first row, first column
    size: tuple[int, int]  # rows, columns
    layout: TensorLayout  # layout of the whole value
    image_indices: Tensor  # (K,) int64 on the CPU: which image of the recording each unit belongs to

    @property
    def whole(self) -> bool:
        return self.size == self.layout.lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the signal of one unit."""
        shape = list(self.layout.shape)
        if self.layout.axes:
            for axis, length in zip(self.layout.axes, self.size, strict=True):
                shape[axis - 1] = length
        return tuple(shape)

    def towards(self, other: Window, axis: int) -> Window:
        """Return this window with its rows (axis 0) or columns (axis 1) replaced by those of another."""
        start, size = self.start.clone(), list(self.size)
        start[:, axis], size[axis] = other.start[:, axis], other.size[axis]
        return Window(start, (size[0], size[1]), other.layout, self.image_indices)

    def cut(self, kept: Tensor) -> Tensor:
        """Cut each unit's image and window out of a recorded tensor: (B, *layout.shape) to (K, *shape).

        Dimensions of length 1, which are broadcast, keep their length. A batch of 1 is used for all images.
        """
        images = [0] * len(self.image_indices) if len(kept) == 1 else self.image_indices.tolist()
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
        if kept.dim() == 4 and kept.is_contiguous(memory_format=torch.channels_last):
            return torch.stack([part.movedim(0, -1) for part in parts]).movedim(-1, 1)  # in the same format
        return torch.stack(parts)

    def place(self, signal: Tensor, start: Tensor) -> Tensor:
        """Move signals (K, ...), whose first row and column is ``start[k]``, into this window: (K, *shape).

        Parts outside the window are dropped. The rest of the window is zero.
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
    """Return the dtype of the signals for values of a dtype: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return zeros with the dtype and device of another tensor, in the memory format of `empty`."""
    return empty(like, shape).zero_()


def empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return an uninitialised signal; for maps on a CPU in channels-last format, which convolves faster."""
    maps = len(shape) == 4 and like.device.type == "cpu"
    layout = torch.channels_last if maps else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _pad(signal: Tensor, axes: Axes, shift: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Move all signals by one shift, by padding and cropping."""
    pads = [0, 0] * (signal.dim() - min(axes))
    for axis, moved, length in zip(axes, shift, size, strict=True):
        there = signal.shape[axis]
        if moved <= -there or moved >= length:  # entirely outside: `pad` cannot crop more than there is
            shape = list(signal.shape)
            for dim, wanted in zip(axes, size, strict=True):
                shape[dim] = wanted
            return zeros(signal, shape)
        place = 2 * (signal.dim() - 1 - axis)
        pads[place], pads[place + 1] = moved, length - moved - there
    return torch.nn.functional.pad(signal, pads) if any(pads) else signal


def _overlap(shift: int, there: int, here: int) -> tuple[int, int, int]:
    """Return where a range of length `there`, moved by `shift`, overlaps a range of length `here`.

    The result is the start of the overlap in `here`, its start in `there`, and its length.
    """
    first, last = max(0, shift), min(here, there + shift)
    return (first, first - shift, last - first) if last > first else (0, 0, 0)
