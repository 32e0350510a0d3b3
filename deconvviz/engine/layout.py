"""Which positions a unit sees, and the window of each map in which its signal is carried down.

A unit sees only its receptive field, so its signal needs no more of a map than that. Rows and columns
never mix on the way down, so what is seen is kept as one set of rows and one of columns: a boolean vector
each, exact also for dilated convolutions and unequal pooling windows. Where branches meet it can hold a
little more than is seen: enough for a window, and for a receptive field there is `look_closely`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deconvviz.engine.rules import Rule
    from deconvviz.engine.tape import Step

Seen = tuple[Tensor, Tensor]
"""(K, H) and (K, W) bool: the rows and columns of a map that K units see."""

Axes = tuple[int, int]
"""Which dimensions are rows and columns, the batch counted as 0."""


@dataclass(frozen=True)
class Form:
    """The shape of a value for one picture, and where in it the rows and columns of a map are."""

    shape: tuple[int, ...]  # (C, H, W) for most maps
    axes: Axes | None  # (2, 3) for most maps, (1, 2) with channels last; None: no map of rows and columns
    folded: int = 0  # so many dimensions the network has folded into its batch: (B * H * W, C) from (H, W, C)
    batch_at: int = 0  # which dimension of the network's own tensor is the batch
    joint: int | None = None  # the dimension in which rows and columns lie one after the other: (C, H * W)
    grid: tuple[int, int] = (1, 1)  # rows and columns of the joint dimension
    mixed: frozenset[int] = frozenset()  # dimensions that hold positions in an order that is not followed

    @classmethod
    def of(cls, shape: Sequence[int]) -> Form:
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

    def standing(self) -> Form:
        """The same with its dimensions in that order."""
        order = self.standing_order()
        moved = self.moved(lambda dim: 1 + order.index(dim))
        shape = tuple(self.shape[dim - 1] for dim in order)
        return replace(moved, shape=shape, folded=0, batch_at=0)

    def moved(self, new_place: Callable[[int], int | None]) -> Form:
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

    def without(self, changed: Collection[int], *, keep: bool = False) -> Form:
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
    form: Form  # of the whole value
    images: Tensor  # (K,) int64 on the CPU: which picture of the recording each unit belongs to

    @property
    def whole(self) -> bool:
        return self.size == self.form.lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one unit's signal."""
        shape = list(self.form.shape)
        if self.form.axes:
            for axis, length in zip(self.form.axes, self.size, strict=True):
                shape[axis - 1] = length
        return tuple(shape)

    def towards(self, other: Window, axis: int) -> Window:
        """One that lies like another along one axis, and still like this one along the other."""
        start, size = self.start.clone(), list(self.size)
        start[:, axis], size[axis] = other.start[:, axis], other.size[axis]
        return Window(start, (size[0], size[1]), other.form, self.images)

    def cut(self, kept: Tensor) -> Tensor:
        """(B, *form.shape), recorded, to (K, *shape): each unit's own picture, in its own window.

        Where a dimension of `kept` is 1, so it stays: one number for a whole axis, or for all pictures.
        """
        images = [0] * len(self.images) if len(kept) == 1 else self.images.tolist()
        spans = [
            (axis, number, length)
            for number, (axis, length) in enumerate(zip(self.form.axes or (), self.size, strict=False))
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
        assert self.form.axes is not None
        shift = start - self.start  # (K, 2)
        if bool((shift == shift[0]).all()):
            return _pad(signal, self.form.axes, shift[0].tolist(), self.size)
        placed = empty(signal, (len(signal), *self.shape))
        rows, columns = self.form.axes
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


@dataclass(frozen=True)
class View:
    """What K units see of every value below theirs, down to the picture."""

    seen: dict[int, Seen]
    straight: dict[tuple[int, int], tuple[bool, bool]]
    """By output of a step and number of its argument: do rows (columns) see only themselves?"""


def look_down(steps: Sequence[Step], forms: dict[int, Form], value: int, seen: Seen) -> View:
    """What K units see along a path."""
    found: dict[int, Seen] = {value: seen}
    straight: dict[tuple[int, int], tuple[bool, bool]] = {}
    for step, rule, argument, below in _links(steps, found):
        above, lengths = found[step.output], forms[below].lengths
        parts, kept = [], []
        for axis in (0, 1):
            reach = rule.reach(argument, axis, above[axis].shape[1], lengths[axis])
            kept.append(reach is None)
            parts.append(above[axis] if reach is None else (above[axis].float() @ reach.float()) > 0)
        straight[step.output, argument] = (kept[0], kept[1])
        rows, columns = parts
        something = rows.any(1, keepdim=True) & columns.any(1, keepdim=True)  # not all lies in a border
        rows, columns = rows & something, columns & something
        if below in found:
            rows, columns = rows | found[below][0], columns | found[below][1]
        found[below] = (rows, columns)
    return View(found, straight)


def look_closely(steps: Sequence[Step], forms: dict[int, Form], value: int, seen: Seen) -> dict[int, Tensor]:
    """What K units see along a path, position by position: (K, H, W) bool.

    Where branches meet, rows seen through one and columns seen through another say too much.
    """
    found = {value: seen[0][:, :, None] & seen[1][:, None, :]}
    for step, rule, argument, below in _links(steps, found):
        mask, lengths = found[step.output], forms[below].lengths
        rows = rule.reach(argument, 0, mask.shape[1], lengths[0])
        columns = rule.reach(argument, 1, mask.shape[2], lengths[1])
        if rows is not None:
            mask = (rows.T.float() @ mask.float()) > 0
        if columns is not None:
            mask = (mask.float() @ columns.float()) > 0
        found[below] = found[below] | mask if below in found else mask
    return found


def _links(steps: Sequence[Step], found: Mapping[int, object]) -> Iterator[tuple[Step, Rule, int, int]]:
    """Downwards, each step whose output is found: its rule, and number and value of each argument below."""
    for step in reversed(steps):
        if step.output in found and step.rule is not None:
            for argument, below in enumerate(step.inputs):
                if below is not None:
                    yield step, step.rule, argument, below


def meets(steps: Sequence[Step]) -> bool:
    """Whether the branches of a path meet somewhere."""
    below = [value for step in steps for value in step.inputs if value is not None]
    return len(below) > len(set(below))


def everything(form: Form, count: int) -> Seen:
    """All of a value, for K units."""
    rows, columns = form.lengths
    return torch.ones(count, rows, dtype=torch.bool), torch.ones(count, columns, dtype=torch.bool)


def hull(seen: Tensor) -> tuple[Tensor, Tensor]:
    """(K, n) bool to (K,) first and (K,) one past the last position seen; 0 and 0 where nothing is."""
    n = seen.shape[1]
    some = seen.any(dim=1)
    first = seen.int().argmax(dim=1)
    past = n - seen.flip(1).int().argmax(dim=1)
    return torch.where(some, first, 0), torch.where(some, past, 0)


def window(seen: Seen, form: Form, images: Tensor) -> Window:
    """The smallest windows of one common size that hold what each unit sees, inside the map."""
    return Spans.of(seen, form).window(slice(None), images)


@dataclass(frozen=True)
class Spans:
    """From where to where each of K units sees a value, along its rows and along its columns."""

    first: Tensor  # (K, 2)
    length: Tensor  # (K, 2)
    form: Form

    @classmethod
    def of(cls, seen: Seen, form: Form) -> Spans:
        hulls = [torch.stack(hull(axis), dim=1) for axis in seen]  # (K, 2) of rows, and of columns
        both = torch.stack(hulls, dim=2)
        return cls(both[:, 0], both[:, 1] - both[:, 0], form)

    @classmethod
    def whole(cls, form: Form, count: int) -> Spans:
        return cls(torch.zeros(count, 2, dtype=torch.long), torch.tensor([form.lengths] * count), form)

    def window(self, part: Tensor | slice, images: Tensor) -> Window:
        """The smallest windows of one common size for some of the units, inside the map."""
        high, wide = (max(1, length) for length in self.length[part].amax(0).tolist())
        rows, columns = self.form.lengths
        start = torch.minimum(self.first[part], torch.tensor([rows - high, columns - wide]))
        return Window(start, (high, wide), self.form, images)
