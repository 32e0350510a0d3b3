"""The projection pass: replay the tape in reverse, from a layer to the pixels (paper, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from deconvviz.engine.layout import Window, signal_dtype
from deconvviz.engine.receptive_fields import Spans, UnitFields, hull
from deconvviz.engine.tape import PICTURE, Step
from deconvviz.engine.units import Seed


def project(fields: UnitFields, seed: Seed, like: Tensor, *, memory: int | None = None) -> Tensor:
    """Project K signals of a value of a tape back to the image: (K, C, H, W).

    `fields` names the tape and the value, and knows what the units of `seed` see. Signals have double
    precision if `like`, the layer's activations, has it, else single precision: they soon outgrow half.
    Units are projected in batches, each unit in its own window; as many at once as fit in `memory` (bytes;
    None: a share of the free memory), and one by one where not even one fits.
    Raises RefusedOp and StaleRecording before anything is computed.
    """
    tape, value, path = fields.tape, fields.value, fields.path
    tape.require(path)
    seed.check()
    count = len(seed)
    dtype = signal_dtype(like.dtype)
    pixels = like.new_zeros(count, *tape.layouts[PICTURE].shape, dtype=dtype)
    if not path and value != PICTURE:
        return pixels  # held constant: no signal leaves this value
    if memory is None:
        memory = default_budget(like.device)
    spans, elementwise = spans_of(fields, count), fields.visibility.elementwise
    order = torch.argsort(_places(seed), stable=True)  # neighbours share small windows and equal shifts
    first, step = 0, count
    while first < count:
        part = order[first : first + step]
        images = seed.images[part]
        plan = _Plan({v: span.window(part, images) for v, span in spans.items()}, elementwise, path)
        fits = max(1, memory // max(1, plan.bytes_per_unit(dtype.itemsize)))
        if fits < len(part):
            step = fits
            continue
        signal = seed.signal(part, plan.windows[value])
        _replay(plan, value, tape.layouts[value].laid_out(signal), pixels, part)
        first += len(part)
    return pixels


SHARE = 4  # a quarter of what is free: the network, its recording and other programs need memory too
LEAST = 64 << 20  # bytes
MOST = {"cuda": 4 << 30, "cpu": 128 << 20}  # a CPU is a fifth slower where signals do not fit its caches


def default_budget(device: torch.device) -> int:
    """Return how many bytes a batch of units may take: a share of what is free, within bounds."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return min(max(int(free) // SHARE, LEAST), MOST.get(device.type, MOST["cpu"]))


def _places(seed: Seed) -> Tensor:
    """(K,) a number that is similar for units that lie close to one another."""
    rows, columns = (hull(seen)[0] for seen in seed.seen)
    return (seed.images * seed.seen[0].shape[1] + rows) * seed.seen[1].shape[1] + columns


@dataclass(frozen=True)
class _Plan:
    """The window of every value on the path, for one batch of units."""

    windows: dict[int, Window]
    elementwise: dict[tuple[int, int], tuple[bool, bool]]  # as in `Visibility`
    path: Sequence[Step]

    def bytes_per_unit(self, element: int) -> int:
        """What the costliest step takes for one unit: its signals, and as much again to work with."""
        return max((2 * element * self._numbers(step) for step in self.path), default=0)

    def _numbers(self, step: Step) -> int:
        values = {step.output, *(below for below in step.inputs if below is not None)} & set(self.windows)
        return sum(torch.Size(self.windows[value].shape).numel() for value in values)


def spans_of(fields: UnitFields, count: int) -> dict[int, Spans]:
    """Return what the units see of every value; all of it, where a rule does not support windows."""
    layouts, seen = fields.tape.layouts, fields.visibility.seen
    whole = {value for value in seen if layouts[value].axes is None}
    for step in fields.path:
        if step.rule is not None and not step.rule.supports_windows:
            whole.update((step.output, *(below for below in step.inputs if below is not None)))
    return {
        value: Spans.whole(layouts[value], count) if value in whole else Spans.of(axes, layouts[value])
        for value, axes in seen.items()
    }


def _replay(plan: _Plan, value: int, signal: Tensor, pixels: Tensor, part: Tensor) -> None:
    """Replay the path in reverse with one batch of signals, and write what reaches the image to `pixels`."""
    signals = {value: signal}
    for step in reversed(plan.path):
        if step.output not in signals:
            continue  # an argument into which no signal flowed
        for below, x in project_step(step, signals.pop(step.output), plan.windows, plan.elementwise):
            signals[below] = signals[below] + x if below in signals else x
    if PICTURE not in signals:
        return
    window = plan.windows[PICTURE]
    (h, w) = window.size if window.layout.axes else (None, None)
    for k, x, (row, column) in zip(part.tolist(), signals[PICTURE], window.start.tolist(), strict=True):
        if h is None or w is None:
            pixels[k] = x
        else:
            pixels[k, :, row : row + h, column : column + w] = x


def project_step(
    step: Step,
    signal: Tensor,
    windows: Mapping[int, Window],
    elementwise: Mapping[tuple[int, int], tuple[bool, bool]],
) -> Iterator[tuple[int, Tensor]]:
    """Project a signal through one step: the values into which it flows, each with a signal in its window."""
    assert step.rule is not None  # else `Tape.require` has raised
    window = windows[step.output]
    input_windows = [windows[below] if below is not None else window for below in step.inputs]
    arrived = step.rule.project(signal, window, input_windows)
    for argument, (below, x) in enumerate(zip(step.inputs, arrived, strict=True)):
        if below is not None and x is not None:
            yield below, _placed(x, window, input_windows[argument], elementwise[step.output, argument])


def _placed(x: Tensor, window: Window, input_window: Window, elementwise: tuple[bool, bool]) -> Tensor:
    """Move a signal from the output's window to the argument's, which another branch may have widened.

    Only along axes on which the rule is elementwise; along the others the rule has filled `input_window`.
    """
    if window.layout.axes and not any(elementwise) and tuple(x.shape[1:]) != input_window.shape:
        whole = Window(torch.zeros_like(window.start), window.layout.lengths, window.layout, window.images)
        return whole.place(x, window.start)  # a term that has its rows and columns elsewhere, or none
    if not any(elementwise) or input_window.layout.axes is None or window.layout.axes is None:
        return x
    if window.size == input_window.size and torch.equal(window.start, input_window.start):
        return x
    return input_window.place(x, torch.where(torch.tensor(elementwise), window.start, input_window.start))
