"""The projection pass: replay the tape in reverse, from a layer to the pixels (paper, section 2.1)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from deconvviz.engine.layout import Window, signal_dtype
from deconvviz.engine.pixel_fields import hull
from deconvviz.engine.receptive_fields import Spans, UnitFields
from deconvviz.engine.tape import Step
from deconvviz.engine.units import Seed

_LOGGER = logging.getLogger(__name__)


def project(fields: UnitFields, seed: Seed, like: Tensor, *, memory: int | None = None) -> Tensor:
    """Project K signals at a value of a tape back to the image: (K, C, H, W), or the input's other axes.

    Units are projected in batches, each unit in its own window. Signals have double precision if the layer's
    activations have it, else single precision, because they overflow half precision.

    Args:
        fields: Receptive fields of the units of `seed`. They also state the tape and the value.
        seed: The K signals.
        like: Activations of the layer.
        memory: Memory for one batch in bytes. None: a share of the free memory. A batch has at least one
            unit, even if the memory is too small for it.

    Raises:
        RefusedOp: An operation on the path is unsupported. Nothing has been computed.
        StaleRecording: A weight has changed since the forward pass. Nothing has been computed.
    """
    return project_to_inputs(fields, seed, like, memory=memory)[0]


def project_to_inputs(
    fields: UnitFields, seed: Seed, like: Tensor, *, memory: int | None = None
) -> list[Tensor]:
    """Project K signals to every input of the network, as `project`: (K, ...) for each."""
    tape, value, path = fields.tape, fields.value, fields.path
    tape.require(path)
    seed.check()
    count = len(seed)
    dtype = signal_dtype(like.dtype)
    pixels = {one: like.new_zeros(count, *tape.layouts[one].shape, dtype=dtype) for one in tape.inputs}
    if not path and value not in pixels:
        return list(pixels.values())  # a constant: no signal flows from this value to an input
    if memory is None:
        memory = default_budget(like.device)
    spans, elementwise = spans_of(fields, count), fields.visibility.elementwise
    order = torch.argsort(_sort_keys(seed), stable=True)  # neighbours share small windows and equal shifts
    first, step = 0, count
    while first < count:
        part = order[first : first + step]
        images = seed.image_indices[part]
        plan = _Plan({v: span.window(part, images) for v, span in spans.items()}, elementwise, path)
        fits = max(1, memory // max(1, plan.bytes_per_unit(dtype.itemsize)))
        if fits < len(part):
            step = fits
            continue
        _LOGGER.debug("projecting %d of %d units in one batch", len(part), count)
        signal = seed.signal(part, plan.windows[value])
        _replay(plan, value, tape.layouts[value].from_channels_first(signal), pixels, part)
        first += len(part)
    return list(pixels.values())


SHARE = 4  # a quarter of the free memory: the network, its recording and other programs need some too
LEAST = 32 << 20  # bytes
MOST = {"cuda": 4 << 30, "cpu": 64 << 20}  # above 32 MiB, a new tensor on a CPU is slow: its pages are new


def default_budget(device: torch.device) -> int:
    """Return the memory for one batch of units in bytes: a share of the free memory, within bounds."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return min(max(int(free) // SHARE, LEAST), MOST.get(device.type, MOST["cpu"]))


def _sort_keys(seed: Seed) -> Tensor:
    """Return one number per unit, (K,), that is similar for units close to one another."""
    keys = seed.image_indices
    for seen in seed.seen:
        keys = keys * seen.shape[1] + hull(seen)[0]
    return keys


@dataclass(frozen=True)
class _Plan:
    """The window of every value on the path, for one batch of units."""

    windows: dict[int, Window]
    elementwise: dict[tuple[int, int], tuple[bool, ...]]  # as in `Visibility`
    path: Sequence[Step]

    def bytes_per_unit(self, element: int) -> int:
        """Return the memory of the most expensive step for one unit: its signals, twice for working space."""
        return max((2 * element * self._numbers(step) for step in self.path), default=0)

    def _numbers(self, step: Step) -> int:
        values = {step.output, *(below for below in step.inputs if below is not None)} & set(self.windows)
        return sum(torch.Size(self.windows[value].shape).numel() for value in values)


def spans_of(fields: UnitFields, count: int) -> dict[int, Spans]:
    """Return the span of every value that the units depend on; all of it if a rule needs whole maps."""
    layouts, seen = fields.tape.layouts, fields.visibility.seen
    whole = {value for value in seen if layouts[value].axes is None}
    for step in fields.path:
        if step.rule is not None and not step.rule.supports_windows:
            whole.update((step.output, *(below for below in step.inputs if below is not None)))
    return {
        value: Spans.whole(layouts[value], count) if value in whole else Spans.of(axes, layouts[value])
        for value, axes in seen.items()
    }


def _replay(plan: _Plan, value: int, signal: Tensor, pixels: Mapping[int, Tensor], part: Tensor) -> None:
    """Replay the path in reverse with one batch of signals, and write to ``pixels[...][part]``."""
    signals = {value: signal}
    for step in reversed(plan.path):
        if step.output not in signals:
            continue  # a value that received no signal
        for below, x in project_step(step, signals.pop(step.output), plan.windows, plan.elementwise):
            signals[below] = signals[below] + x if below in signals else x
    for one in signals.keys() & pixels.keys():
        _write(signals[one], plan.windows[one], pixels[one], part)


def _write(signal: Tensor, window: Window, pixels: Tensor, part: Tensor) -> None:
    """Write the signals that arrived at an input of the network, in their windows, to ``pixels[part]``."""
    tracked = window.layout.tracked
    for k, x, first in zip(part.tolist(), signal, window.start.tolist(), strict=True):
        into = pixels[k]
        for axis in tracked:
            into = into.narrow(1 + axis, first[axis], window.size[axis])
        into.copy_(x)


def project_step(
    step: Step,
    signal: Tensor,
    windows: Mapping[int, Window],
    elementwise: Mapping[tuple[int, int], tuple[bool, ...]],
) -> Iterator[tuple[int, Tensor]]:
    """Project a signal through one step. Yield each value that receives one, and the signal in its window."""
    assert step.rule is not None  # otherwise `Tape.require` has raised
    window = windows[step.output]
    input_windows = [windows[below] if below is not None else window for below in step.inputs]
    arrived = step.rule.project(signal, window, input_windows)
    for argument, (below, x) in enumerate(zip(step.inputs, arrived, strict=True)):
        if below is not None and x is not None:
            yield below, _placed(x, window, input_windows[argument], elementwise[step.output, argument])


def _placed(x: Tensor, window: Window, input_window: Window, elementwise: tuple[bool, ...]) -> Tensor:
    """Move a signal from the output's window to the argument's, which other branches may have enlarged.

    It is moved only along the axes on which the rule is elementwise. Along the others the rule has already
    filled `input_window`.
    """
    if window.layout.axes and not any(elementwise) and tuple(x.shape[1:]) != input_window.shape:
        whole = Window.all_of(window.layout, window.image_indices)
        return whole.place(x, window.start)  # the argument has no positions, or at other dimensions
    if not any(elementwise) or input_window.layout.axes is None or window.layout.axes is None:
        return x
    if window.size == input_window.size and torch.equal(window.start, input_window.start):
        return x
    return input_window.place(x, torch.where(torch.tensor(elementwise), window.start, input_window.start))
