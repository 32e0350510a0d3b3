"""The way down: the tape walked backwards from a layer to the picture (paper, section 2.1, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import PICTURE, Step, Tape
from deconvviz.engine.units import Seed
from deconvviz.engine.windows import Seen, Window, hull, seen_below, window

DEFAULT_MEMORY = 1 << 30  # bytes that the signals of one batch of units may take


def project(tape: Tape, value: int, seed: Seed, like: Tensor, *, memory: int = DEFAULT_MEMORY) -> Tensor:
    """Carry K signals from a value of the tape down to the picture: (K, C, H, W) of `like`'s type.

    Units go down together, each in its own window; as many at once as fit in `memory` (bytes).
    Raises RefusedOp and StaleRecording before anything is computed.
    """
    path = tape.path(value)
    tape.require(path)
    count = len(seed)
    pixels = like.new_zeros(count, *tape.shapes[PICTURE])
    order = torch.argsort(_places(seed), stable=True)  # neighbours share small windows and equal shifts
    first, step = 0, count
    while first < count:
        part = order[first : first + step]
        plan = _plan(tape, path, value, seed, part)
        fits = max(1, memory // max(1, plan.bytes_per_unit(like.element_size())))
        if fits < len(part):
            step = fits
            continue
        _down(path, plan, value, seed.signal(part, plan.windows[value]), pixels, part)
        first += len(part)
    return pixels


def _places(seed: Seed) -> Tensor:
    """(K,) a number that is alike for units that lie close to one another."""
    rows, columns = (hull(seen)[0] for seen in seed.seen)
    return (seed.images * seed.seen[0].shape[1] + rows) * seed.seen[1].shape[1] + columns


@dataclass(frozen=True)
class _Plan:
    """The window of every value on the path, for one batch of units."""

    windows: dict[int, Window]
    path: Sequence[Step]

    def bytes_per_unit(self, element: int) -> int:
        """What the costliest step takes for one unit: its signals, and as much again to work with."""
        return max((2 * element * self._numbers(step) for step in self.path), default=0)

    def _numbers(self, step: Step) -> int:
        values = {*step.outputs, *(below for below in step.inputs if below is not None)} & set(self.windows)
        return sum(_count(self.windows[value]) for value in values)


def _count(at: Window) -> int:
    shape = (at.shape[0], *at.size) if len(at.shape) == 3 else at.shape
    return int(torch.Size(shape).numel())


def _plan(tape: Tape, path: Sequence[Step], value: int, seed: Seed, part: Tensor) -> _Plan:
    seen = (seed.seen[0][part], seed.seen[1][part])
    below = seen_below(path, tape.shapes, value, seen, whole_for_rules=True)
    images = seed.images[part]
    return _Plan({v: window(found, tape.shapes[v], images) for v, found in below.items()}, path)


def _down(
    path: Sequence[Step], plan: _Plan, value: int, signal: Tensor, pixels: Tensor, part: Tensor
) -> None:
    """Walk the path backwards with one batch of signals, and lay what arrives into `pixels`."""
    signals = {value: signal}
    for step in reversed(path):
        assert step.rule is not None  # else it was refused
        outputs = [output for output in step.outputs if output in signals]
        if not outputs:
            continue  # an argument into which nothing flows
        at = plan.windows[outputs[0]]
        into = [plan.windows.get(below, at) if below is not None else at for below in step.inputs]
        arrived = step.rule.down(signals.pop(outputs[0]), at, into)
        for argument, (below, x) in enumerate(zip(step.inputs, arrived, strict=True)):
            if below is not None and x is not None:
                x = _filled(step.rule, argument, x, at, into[argument])
                signals[below] = signals[below] + x if below in signals else x
    arrived_below = signals.get(PICTURE)
    if arrived_below is None:
        return
    at = plan.windows[PICTURE]
    (h, w) = at.size
    for k, x, (row, column) in zip(part.tolist(), arrived_below, at.start.tolist(), strict=True):
        pixels[k, :, row : row + h, column : column + w] = x


def _filled(rule: Rule, argument: int, x: Tensor, at: Window, into: Window) -> Tensor:
    """What goes position to position still lies as in `at`; another branch may have widened the argument."""
    if not rule.windowed or len(at.shape) != 3 or len(into.shape) != 3:
        return x
    reaches = (rule.reach(argument, axis, at.shape[1 + axis], into.shape[1 + axis]) for axis in (0, 1))
    return into.place(x, at.start) if all(reach is None for reach in reaches) else x


def boxes(tape: Tape, value: int, seen: Seen) -> list[tuple[int, int, int, int]]:
    """The receptive field of K units, in pixels of the network's input: x0, y0, x1, y1 (half open).

    `seen` are the rows and columns that they fill in their own map.
    """
    found = seen_below(tape.path(value), tape.shapes, value, seen, whole_for_rules=False)[PICTURE]
    (y0, y1), (x0, x1) = (hull(axis) for axis in found)
    return [tuple(box) for box in torch.stack([x0, y0, x1, y1], dim=1).tolist()]


@dataclass(frozen=True)
class Field:
    """The receptive fields of a map's units, in pixels, as if the picture had no border: (rows, columns)."""

    first: tuple[int, int]  # where the field of the unit at (0, 0) begins; negative: in the padding
    size: tuple[int, int]
    stride: tuple[int, int]  # from one unit to the next


def fields(tape: Tape) -> dict[int, Field | None]:
    """The receptive fields of every value's units, as large as they are on a picture without borders.

    None where units see the whole picture, whatever its size, or where the way down is refused.
    """
    rows, columns = (_axis_spans(tape, axis) for axis in (0, 1))
    found: dict[int, Field | None] = {}
    for value in tape.shapes:
        row, column = rows.get(value), columns.get(value)
        found[value] = (
            Field((row[0], column[0]), (row[1] - row[0], column[1] - column[0]), (row[2], column[2]))
            if row and column
            else None
        )
    return found


_Span = tuple[int, int, int]
"""First and one past the last pixel that a value's first position sees, borders ignored; and the stride."""


def _axis_spans(tape: Tape, axis: int) -> dict[int, _Span | None]:
    spans: dict[int, _Span | None] = {PICTURE: (0, 1, 1)}
    for step in tape.steps:
        spans.update(dict.fromkeys(step.outputs, _span(step, spans, axis)))
    return spans


def _span(step: Step, spans: dict[int, _Span | None], axis: int) -> _Span | None:
    """What the first output position of a step sees, from what its arguments' positions see."""
    found = []
    for argument, below in enumerate(step.inputs):
        if below is None:
            continue
        span = spans[below]
        slide = step.rule.slide(argument, axis) if step.rule else None
        if span is None or slide is None:
            return None
        first, past, stride = span
        moved = first - slide.padding * stride
        found.append((moved, moved + (slide.extent - 1) * stride + (past - first), stride * slide.stride))
    if not found or any(span[2] != found[0][2] for span in found):
        return None
    return min(span[0] for span in found), max(span[1] for span in found), found[0][2]
