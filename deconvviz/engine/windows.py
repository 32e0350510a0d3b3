"""Which positions a unit sees, and the window of each map in which its signal is carried down.

A unit sees only its receptive field, so its signal needs no more of a map than that. Rows and columns
never mix on the way down, so what is seen is kept as one set of rows and one of columns: a boolean vector
each, exact also for dilated convolutions, unequal pooling windows and joined branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deconvviz.engine.tape import Step

Seen = tuple[Tensor, Tensor]
"""(K, H) and (K, W) bool: the rows and columns of a map that K units see."""


@dataclass(frozen=True)
class Window:
    """Where the signals of K units lie in a map: one size for all, and one start for each.

    A value that is no map of rows and columns (a vector of a fully connected layer) is always whole.
    """

    start: Tensor  # (K, 2) int64 on the CPU: first row, first column
    size: tuple[int, int]  # rows, columns
    shape: tuple[int, ...]  # of the whole value, without the batch: (C, H, W) for a map
    images: Tensor  # (K,) int64 on the CPU: which picture of the recording each unit belongs to

    @property
    def whole(self) -> bool:
        return len(self.shape) != 3 or self.size == self.shape[1:]

    def cut(self, kept: Tensor) -> Tensor:
        """(B, C, H, W), recorded, to (K, C, h, w): each unit's own picture, in its own window."""
        images: list[int] = self.images.tolist()
        if self.whole:
            if len(set(images)) == 1:
                return kept[images[0]].expand(len(images), *kept.shape[1:])
            return kept[self.images.to(kept.device)]
        (h, w), corners = self.size, self.start.tolist()
        return torch.stack(
            [kept[b, :, y : y + h, x : x + w] for b, (y, x) in zip(images, corners, strict=True)]
        )

    def place(self, signal: Tensor, start: Tensor) -> Tensor:
        """(K, C, n, m), unit k's first row and column at map position ``start[k]``, to (K, C, h, w) here.

        What lies outside of the window is dropped, what is missing is zero.
        """
        shift = start - self.start  # (K, 2)
        if bool((shift == shift[0]).all()):
            return _pad(signal, shift[0].tolist(), self.size)
        placed = signal.new_zeros(*signal.shape[:2], *self.size)
        for k, (dy, dx) in enumerate(shift.tolist()):
            rows, from_rows = _overlap(dy, signal.shape[2], self.size[0])
            columns, from_columns = _overlap(dx, signal.shape[3], self.size[1])
            placed[k, :, rows, columns] = signal[k, :, from_rows, from_columns]
        return placed


def _pad(signal: Tensor, shift: Sequence[int], size: tuple[int, int]) -> Tensor:
    """One shift for all: pad and crop."""
    (dy, dx), (h, w) = shift, signal.shape[2:]
    if dy <= -h or dx <= -w or dy >= size[0] or dx >= size[1]:
        return signal.new_zeros(*signal.shape[:2], *size)  # all of it lies outside; `pad` cannot crop so much
    pads = (dx, size[1] - dx - w, dy, size[0] - dy - h)
    return torch.nn.functional.pad(signal, pads) if any(pads) else signal


def _overlap(shift: int, there: int, here: int) -> tuple[slice, slice]:
    """The part of 0 .. here that 0 .. there covers when it is moved by shift; and the same part, there."""
    first, last = max(0, shift), max(0, min(here, there + shift))
    first = min(first, last)
    return slice(first, last), slice(first - shift, last - shift)


def seen_below(
    steps: Sequence[Step],
    shapes: dict[int, tuple[int, ...]],
    value: int,
    seen: Seen,
    *,
    whole_for_rules: bool,
) -> dict[int, Seen]:
    """What K units see of every value below theirs, down to the picture.

    With `whole_for_rules`, a rule that cannot work on windows widens what it touches to the whole map.
    """
    found: dict[int, Seen] = {value: seen}
    for step in reversed(steps):
        for output in step.outputs:
            if output in found and whole_for_rules and step.rule is not None and not step.rule.windowed:
                found[output] = _everything(found[output])
        outputs = [output for output in step.outputs if output in found]
        for argument, below in enumerate(step.inputs):
            if below is None or not outputs or step.rule is None:
                continue
            lengths = _lengths(shapes[below])
            parts = []
            for axis in (0, 1):
                above = found[outputs[0]][axis]
                reach = step.rule.reach(argument, axis, above.shape[1], lengths[axis])
                if whole_for_rules and not step.rule.windowed:
                    reach = torch.ones(above.shape[1], lengths[axis], dtype=torch.bool)
                parts.append(above if reach is None else (above.float() @ reach.float()) > 0)
            rows, columns = parts
            if below in found:
                rows, columns = rows | found[below][0], columns | found[below][1]
            found[below] = (rows, columns)
    return found


def _lengths(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a value; one of each if it is no map."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def _everything(seen: Seen) -> Seen:
    return torch.ones_like(seen[0]), torch.ones_like(seen[1])


def hull(seen: Tensor) -> tuple[Tensor, Tensor]:
    """(K, n) bool to (K,) first and (K,) one past the last position seen; 0 and 0 where nothing is."""
    n = seen.shape[1]
    some = seen.any(dim=1)
    first = seen.int().argmax(dim=1)
    past = n - seen.flip(1).int().argmax(dim=1)
    return torch.where(some, first, 0), torch.where(some, past, 0)


def window(seen: Seen, shape: tuple[int, ...], images: Tensor) -> Window:
    """The smallest windows of one common size that hold what each unit sees, inside the map."""
    starts, size = [], []
    for axis_seen in seen:
        first, past = hull(axis_seen)
        length = max(1, int((past - first).max()))
        starts.append(first.clamp(max=axis_seen.shape[1] - length))
        size.append(length)
    return Window(torch.stack(starts, dim=1), (size[0], size[1]), shape, images)
