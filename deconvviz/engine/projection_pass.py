"""The projection pass: replay the tape in reverse, from a layer to the pixels (paper, section 2.1)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import psutil
import torch
from torch import Tensor

from deconvviz.engine.layout import Window, signal_dtype, sparse_zeros
from deconvviz.engine.pixel_fields import hull
from deconvviz.engine.receptive_fields import Elementwise, UnitFields
from deconvviz.engine.rules.winograd import kept_scratch
from deconvviz.engine.tape import Step
from deconvviz.engine.unit_windows import AllSpans, Spans, Windows, spans_of
from deconvviz.engine.units import Seed
from deconvviz.engine.workload import enough_units, signal_count

_LOGGER = logging.getLogger(__name__)


def project(fields: UnitFields, seed: Seed, like: Tensor, *, memory: int | None = None) -> Tensor:
    """Project K signals at a value of a tape back to the image: (K, C, H, W), or the input's other axes.

    Units are projected in batches, each unit in its own window. Signals have double precision if the layer's
    activations have it, else single precision, because they overflow half precision.

    Args:
        fields: Receptive fields of the units of `seed`. They also state the tape and the value.
        seed: The K signals.
        like: Activations of the layer.
        memory: Memory for one batch in bytes, at most. None: a share of the free memory. A batch has at least
            one unit, even if the memory is too small for it.

    Raises:
        RefusedOp: An operation on the path is unsupported. Nothing has been computed.
        StaleRecording: A weight has changed since the forward pass. Nothing has been computed.
    """
    return project_to_inputs(fields, seed, like, memory=memory)[0]


def project_to_inputs(
    fields: UnitFields, seed: Seed, like: Tensor, *, memory: int | None = None
) -> list[Tensor]:
    """Project K signals to every input of the network, as `project`: (K, ...) for each."""
    tape, value = fields.tape, fields.value
    tape.require(fields.path)
    seed.check()
    dtype = signal_dtype(like.dtype)
    spans = spans_of(fields, len(seed))
    pixels = {}
    for one in tape.inputs:
        shape, filled = (len(seed), *tape.layouts[one].shape), _covers_most(spans.get(one))
        pixels[one] = sparse_zeros(like, shape, dtype, filled=filled)
    if not fields.path and value not in pixels:
        return list(pixels.values())  # a constant: no signal flows from this value to an input
    memory = default_budget(like.device) if memory is None else memory
    _keep_freed_blocks()
    with kept_scratch():
        _Replay(fields, seed, spans, pixels, memory).run()
    return list(pixels.values())


SHARE = 4  # a quarter of the free memory: the network, its recording and other programs need some too
LEAST = 16 << 20  # bytes
MOST = {"cuda": 4 << 30, "cpu": 48 << 20}  # on a CPU, more memory is hardly faster
LEAST_PART = 8 << 20  # bytes for a part of a batch on a CPU


def default_budget(device: torch.device) -> int:
    """Return the memory for one batch of units in bytes: a share of the free memory, within bounds."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return min(max(int(free) // SHARE, LEAST), MOST.get(device.type, MOST["cpu"]))


@lru_cache(maxsize=1)  # once in a process
def _keep_freed_blocks() -> None:
    """Let glibc use freed blocks of up to 31 MiB again, instead of returning them to the system.

    It does so as soon as a block of that size has been freed. Otherwise the system sets the pages of nearly
    every signal to zero, which is a tenth of the time of small projections. Without effect elsewhere.
    """
    torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


@dataclass(frozen=True)
class Arrival:
    """A signal that arrives at a value, in its window or in a part of it."""

    x: Tensor
    window: Window  # of the value
    start: Tensor | None  # (K, axes): the first position of each unit; None if the signal fills the window

    def placed(self) -> Tensor:
        """Return the signal in the whole window."""
        return self.x if self.start is None else self.window.place(self.x, self.start)

    def add_to(self, whole: Tensor) -> None:
        """Add the signal to another one that fills the window."""
        assert self.start is not None
        self.window.add(self.x, self.start, whole)


@dataclass(frozen=True)
class _Batch:
    """Some units of the seed, and their signals at values of the tape."""

    units: Tensor  # (K,) int64: their indices in the seed
    windows: Windows
    signals: dict[int, Tensor]  # by value
    owned: set[int] = field(default_factory=set)  # values with a signal in memory that nothing else uses
    waiting: dict[int, list[Arrival]] = field(default_factory=dict)  # by value: to be added by `take`

    def __contains__(self, value: int) -> bool:
        return value in self.signals or value in self.waiting

    def receive(self, value: int, arrival: Arrival, *, new: bool) -> None:
        """Add a signal that arrives at a value. `new` states that nothing else uses its memory."""
        if arrival.start is not None:
            self.waiting.setdefault(value, []).append(arrival)
            return
        x, held = arrival.x, self.signals.get(value)
        if held is None:
            self.signals[value] = x
            if new:
                self.owned.add(value)
            return
        self.signals[value] = x.add_(held) if new and _alike(held, x) else held + x
        self.owned.add(value)

    def take(self, value: int) -> Tensor:
        """Remove and return the signal at a value.

        A part of the window, such as that of a residual connection, is added to what has filled the window.
        """
        x = self.signals.pop(value, None)
        for part in self.waiting.pop(value, ()):
            if x is not None and value in self.owned and x.dtype == part.x.dtype:
                part.add_to(x)
                continue
            placed = part.placed()
            if x is not None or placed is not part.x:
                self.owned.add(value)
            x = placed if x is None else x + placed
        assert x is not None
        return x

    @property
    def nbytes(self) -> int:
        """Memory of the signals."""
        parts = [part.x for parts in self.waiting.values() for part in parts]
        return sum(x.nbytes for x in (*self.signals.values(), *parts))

    def part(self, rows: slice, windows: Windows) -> _Batch:
        """Return some of the units, with their signals cut to smaller windows."""
        for value in list(self.waiting):
            self.signals[value] = self.take(value)
        signals = {
            value: _cut(x[rows], self.windows[value].start[rows], windows[value])
            for value, x in self.signals.items()
        }
        return _Batch(self.units[rows], windows, signals, set(self.owned))  # the parts share no rows


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape


def _cut(signal: Tensor, start: Tensor, window: Window) -> Tensor:
    """Cut a signal, whose first positions are `start` (K, axes), to a window inside it."""
    if window.layout.axes is None or tuple(signal.shape[1:]) == window.shape:
        return signal
    return window.place(signal, start)


def _covers_most(spans: Spans | None) -> bool:
    """Return whether the windows of the units cover more than half of a value."""
    if spans is None:
        return False
    covered = int(spans.length.prod(1).sum())
    return 2 * covered > len(spans.length) * math.prod(spans.layout.lengths)


_LEAST_SHARE = 0.5  # of the memory of a batch for a part of it, even if the batch itself holds more
_WASTE = 1.1  # positions in the windows of a batch, relative to those in the smallest window of each unit


def _similar(lengths: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    """Divide units into runs with windows of similar sizes. Yield first, past, and positions of a window."""
    first, own, size = 0, 0, [0] * len(lengths[0])
    for number, one in enumerate(lengths):
        larger = [max(pair) for pair in zip(size, one, strict=True)]
        if number > first and (number + 1 - first) * math.prod(larger) > _WASTE * (own + math.prod(one)):
            yield first, number, math.prod(size)
            first, own, larger = number, 0, list(one)
        own, size = own + math.prod(one), larger
    yield first, len(lengths), math.prod(size)


class _Replay:
    """Replay a path in reverse, with as many units at a time as the memory suffices for.

    Signals grow towards the pixels. Near the layer, many units are projected in one batch. It is divided
    where a step would need too much memory, and each part is projected to the pixels before the next one.
    """

    def __init__(
        self,
        fields: UnitFields,
        seed: Seed,
        spans: Mapping[int, Spans],
        pixels: Mapping[int, Tensor],
        memory: int,
    ) -> None:
        self._path, self._value, self._layouts = fields.path, fields.value, fields.tape.layouts
        self._spans, self._elementwise = spans, fields.extent.elementwise
        self._all_spans = AllSpans(spans)
        self._seed, self._pixels, self._memory = seed, pixels, memory
        self._element = max(one.element_size() for one in pixels.values())  # bytes
        order = self._order()
        self._every = _Batch(order, self._windows(order), {})  # all units, without signals
        self._enough: list[float] | None = None  # units, for each step
        if all(one.device.type == "cpu" for one in pixels.values()):
            self._enough = enough_units(self._path, self._every.windows, spans, self._element)

    def run(self) -> None:
        """Project every unit of the seed, and add what arrives to the pixels."""
        for rows in self._parts(self._every, len(self._path) - 1, self._memory):
            units = self._every.units[rows]
            windows = self._windows(units)
            signal = self._seed.signal(units, windows[self._value])
            signal = self._layouts[self._value].from_channels_first(signal)
            self._replay(_Batch(units, windows, {self._value: signal}), len(self._path), self._memory)

    def _replay(self, batch: _Batch, steps: int, memory: int) -> None:
        """Project a batch through the first `steps` steps of the path."""
        for number in reversed(range(steps)):
            step = self._path[number]
            if step.output not in batch:
                continue  # a value that received no signal
            parts = self._parts(batch, number, memory)
            if len(parts) > 1:
                left = max(memory - batch.nbytes, int(_LEAST_SHARE * self._memory))
                for rows in parts:
                    self._replay(batch.part(rows, self._windows(batch.units[rows])), number + 1, left)
                return
            signal, own = batch.take(step.output), step.output in batch.owned
            for below, x in project_step(step, signal, batch.windows, self._elementwise, overwrite=own):
                batch.receive(below, x, new=step.rule is not None and step.rule.returns_new)
        _LOGGER.debug("projected %d of %d units in one batch", len(batch.units), len(self._seed))
        for one in [value for value in self._pixels if value in batch]:
            _write(batch.take(one), batch.windows[one], self._pixels[one], batch.units)

    def _order(self) -> Tensor:
        """Return the units, (K,), so that neighbours have windows of similar sizes at similar places.

        The largest windows are first, so that the memory of their signals is sufficient for all others.
        """
        spans = [self._spans[one] for one in self._pixels if one in self._spans]
        sizes = [-length for span in spans for length in span.length.T]
        places = [hull(seen)[0] for seen in self._seed.seen]
        order = torch.arange(len(self._seed))
        for key in reversed([*sizes, self._seed.image_indices, *places]):  # the first key decides
            order = order[torch.argsort(key[order], stable=True)]
        return order

    def _windows(self, units: Tensor) -> Windows:
        return Windows(self._all_spans, units, self._seed.image_indices[units])

    def _parts(self, batch: _Batch, number: int, memory: int) -> list[slice]:
        """Divide a batch so that the memory suffices for a step; undivided if it does already.

        Parts are smaller if their work is still large compared with what each of them costs.
        """
        step = self._path[number] if self._path else None
        count, each = len(batch.units), self._bytes_per_unit(batch, step)
        if self._enough:
            memory = min(memory, max(LEAST_PART, int(each * self._enough[number])))
        if count * each <= memory or count == 1:
            return [slice(0, count)]
        value = self._value if step is None else step.output
        lengths = self._spans[value].length[batch.units]
        whole = math.prod(batch.windows[value].size)
        parts = []
        for first, past, positions in _similar(lengths.tolist()):
            at_once = max(1, memory * whole // (each * max(1, positions)))
            size = -(-(past - first) // -(-(past - first) // at_once))  # of nearly equal parts
            parts += [slice(start, min(start + size, past)) for start in range(first, past, size)]
        return parts

    def _bytes_per_unit(self, batch: _Batch, step: Step | None) -> int:
        """Return the memory of a step for one unit: its signals, twice for working space."""
        if step is None:
            numbers = batch.windows[self._value].count
        else:
            numbers = signal_count(step, batch.windows, self._spans)
        return 2 * self._element * numbers


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
    elementwise: Elementwise,
    *,
    overwrite: bool = False,
) -> Iterator[tuple[int, Arrival]]:
    """Project a signal through one step. Yield each value that receives one, and the signal.

    `overwrite` states whether nothing else needs the signal afterwards.
    """
    assert step.rule is not None  # otherwise `Tape.require` has raised
    window = windows[step.output]
    input_windows = [windows[below] if below is not None else window for below in step.inputs]
    project = step.rule.project_over if overwrite else step.rule.project
    arrived = project(signal, window, input_windows)
    for argument, (below, x) in enumerate(zip(step.inputs, arrived, strict=True)):
        if below is not None and x is not None:
            yield below, _arrival(x, window, input_windows[argument], elementwise[step.output, argument])


def _arrival(x: Tensor, window: Window, input_window: Window, elementwise: tuple[bool, ...]) -> Arrival:
    """Return a signal with its place in the argument's window, which other branches may have enlarged.

    It is in the output's window along the axes on which the rule is elementwise. Along the others the rule
    has already filled `input_window`.
    """
    if window.layout.axes and not any(elementwise) and tuple(x.shape[1:]) != input_window.shape:
        whole = Window.all_of(window.layout, window.image_indices)
        return Arrival(whole.place(x, window.start), whole, None)  # no positions, or at other dimensions
    filled = Arrival(x, input_window, None)
    if window is input_window or not any(elementwise):
        return filled
    if None in (input_window.layout.axes, window.layout.axes):
        return filled
    if window.size == input_window.size and torch.equal(window.start, input_window.start):
        return filled
    start = torch.where(torch.tensor(elementwise), window.start, input_window.start)
    return Arrival(x, input_window, start)
