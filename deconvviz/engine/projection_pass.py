"""The way down: the tape walked backwards from a layer to the picture (paper, section 2.1, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.engine.layout import (
    Seen,
    Spans,
    Window,
    everything,
    hull,
    look_closely,
    look_down,
    meets,
    signal_dtype,
)
from deconvviz.engine.memory_budget import default_budget
from deconvviz.engine.tape import PICTURE, Step, Tape
from deconvviz.engine.units import Seed


def project(tape: Tape, value: int, seed: Seed, like: Tensor, *, memory: int | None = None) -> Tensor:
    """Carry K signals from a value of the tape down to the picture: (K, C, H, W).

    They are in double precision if `like`, the layer's activations, is, else in single precision: signals
    soon outgrow what half precision can hold.
    Units go down together, each in its own window; as many at once as fit in `memory` (bytes; None: a share
    of what is free), and one by one where not even one does.
    Raises RefusedOp and StaleRecording before anything is computed.
    """
    path = tape.path(value)
    tape.require(path)
    seed.check()
    count = len(seed)
    dtype = signal_dtype(like.dtype)
    pixels = like.new_zeros(count, *tape.forms[PICTURE].shape, dtype=dtype)
    if not path and value != PICTURE:
        return pixels  # held constant: nothing flows down from here
    if memory is None:
        memory = default_budget(like.device)
    spans, straight = _look(tape, path, value, seed)
    order = torch.argsort(_places(seed), stable=True)  # neighbours share small windows and equal shifts
    first, step = 0, count
    while first < count:
        part = order[first : first + step]
        images = seed.images[part]
        plan = _Plan({v: span.window(part, images) for v, span in spans.items()}, straight, path)
        fits = max(1, memory // max(1, plan.bytes_per_unit(dtype.itemsize)))
        if fits < len(part):
            step = fits
            continue
        signal = seed.signal(part, plan.windows[value])
        _down(path, plan, value, tape.forms[value].laid_out(signal), pixels, part)
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
    straight: dict[tuple[int, int], tuple[bool, bool]]  # as in `windows.View`
    path: Sequence[Step]

    def bytes_per_unit(self, element: int) -> int:
        """What the costliest step takes for one unit: its signals, and as much again to work with."""
        return max((2 * element * self._numbers(step) for step in self.path), default=0)

    def _numbers(self, step: Step) -> int:
        values = {step.output, *(below for below in step.inputs if below is not None)} & set(self.windows)
        return sum(torch.Size(self.windows[value].shape).numel() for value in values)


def _look(
    tape: Tape, path: Sequence[Step], value: int, seed: Seed
) -> tuple[dict[int, Spans], dict[tuple[int, int], tuple[bool, bool]]]:
    """Where all units see every value; all of it, where a rule cannot work on windows."""
    form = tape.forms[value]
    view = look_down(path, tape.forms, value, everything(form, len(seed)) if form.axes is None else seed.seen)
    whole = {value for value in view.seen if tape.forms[value].axes is None}
    for step in path:
        if step.rule is not None and not step.rule.windowed:
            whole.update((step.output, *(below for below in step.inputs if below is not None)))
    spans = {
        number: Spans.whole(tape.forms[number], len(seed))
        if number in whole
        else Spans.of(seen, tape.forms[number])
        for number, seen in view.seen.items()
    }
    return spans, view.straight


def _down(
    path: Sequence[Step], plan: _Plan, value: int, signal: Tensor, pixels: Tensor, part: Tensor
) -> None:
    """Walk the path backwards with one batch of signals, and lay what arrives into `pixels`."""
    signals = {value: signal}
    for step in reversed(path):
        assert step.rule is not None  # else it was refused
        if step.output not in signals:
            continue  # an argument into which nothing flowed
        at = plan.windows[step.output]
        into = [plan.windows[below] if below is not None else at for below in step.inputs]
        arrived = step.rule.down(signals.pop(step.output), at, into)
        for argument, (below, x) in enumerate(zip(step.inputs, arrived, strict=True)):
            if below is not None and x is not None:
                x = _filled(x, at, into[argument], plan.straight[step.output, argument])
                signals[below] = signals[below] + x if below in signals else x
    if PICTURE not in signals:
        return
    at = plan.windows[PICTURE]
    (h, w) = at.size if at.form.axes else (None, None)
    for k, x, (row, column) in zip(part.tolist(), signals[PICTURE], at.start.tolist(), strict=True):
        if h is None or w is None:
            pixels[k] = x
        else:
            pixels[k, :, row : row + h, column : column + w] = x


def _filled(x: Tensor, at: Window, into: Window, straight: tuple[bool, bool]) -> Tensor:
    """What goes position to position still lies as in `at`; another branch may have widened the argument."""
    if at.form.axes and not any(straight) and tuple(x.shape[1:]) != into.shape:
        whole = Window(torch.zeros_like(at.start), at.form.lengths, at.form, at.images)
        return whole.place(x, at.start)  # a term that has its rows and columns elsewhere, or none
    if not any(straight) or into.form.axes is None or at.form.axes is None:
        return x
    if at.size == into.size and torch.equal(at.start, into.start):
        return x
    return into.place(x, torch.where(torch.tensor(straight), at.start, into.start))


def boxes(tape: Tape, value: int, seen: Seen) -> list[tuple[int, int, int, int]]:
    """The receptive field of K units, in pixels of the network's input: x0, y0, x1, y1 (half open).

    `seen` are the rows and columns that they fill in their own map. What is held constant on the way down
    (gates, statistics) does not count. Empty boxes, all 0, where nothing flows down to the picture.
    """
    form = tape.forms[value]
    above = everything(form, len(seen[0])) if form.axes is None else seen
    path = tape.path(value)
    if meets(path):
        mask = look_closely(path, tape.forms, value, above).get(PICTURE)
        found = None if mask is None else (mask.any(2), mask.any(1))
    else:
        found = look_down(path, tape.forms, value, above).seen.get(PICTURE)
    if found is None:
        return [(0, 0, 0, 0)] * len(seen[0])
    (y0, y1), (x0, x1) = (hull(axis) for axis in found)
    return [tuple(box) for box in torch.stack([x0, y0, x1, y1], dim=1).tolist()]
