"""Writes: a map, or a part of one, is overwritten; the projection sends the signal to what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.memory import geometry, section
from deconvviz.engine.rules.arithmetic import Elementwise
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.reshape import CUT
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten


@rule(aten.copy_.default)
class Overwritten(Elementwise):
    """A tensor overwritten by another, which may be broadcast; projection: the other receives the signal."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.cut_to_integers = not (call.output.is_floating_point() or call.output.is_complex())
        if self.cut_to_integers:
            self.support, self.note = Support.APPROXIMATE, CUT

    def flows(self, argument: int) -> bool:
        return argument == 1 and not self.cut_to_integers

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [None, self.share(signal, 1)]


@rule(aten.zero_.default, aten.fill_.Scalar, aten.fill_.Tensor)
class Filled(Rule):
    """A tensor overwritten by one number; nothing receives the signal."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def flows(self, argument: int) -> bool:
        return argument == 1  # a number that is computed from the image

    def unsupported(self) -> str:
        return "it fills a tensor with a number that is computed from the image"


@rule(aten.slice_scatter.default)
class Patched(Rule):
    """A tensor of which a part is replaced by another tensor.

    Projection: the part receives the signal at its place, and the tensor the rest of the signal.
    """

    def __init__(self, call: Call) -> None:
        whole, part = call.layouts
        self.derived = call.derived
        self.ranges = ranges(call)
        known = whole or part
        assert known is not None
        self.batch = known.batch_at
        self.folded = known.folded
        self.layout = whole or self._around(call, known)
        placed = part is None or part.place == self.layout.place
        complete = self.layout.joint is None and None not in (self.layout.axes or (None,))
        self.supports_windows = placed and not self.folded and complete
        self.fault = self._fault(call, part)
        self.supports_windows = self.supports_windows and not self.fault
        if not self.fault:  # the ranges of the dimensions of the layout
            order = self.layout.network_order()
            without = [some for at, some in enumerate(self.ranges or ()) if at != self.batch]
            self.parts = {dim: some for dim, some in zip(order, without, strict=True)}

    def _around(self, call: Call, part: TensorLayout) -> TensorLayout:
        """Return the layout of a tensor that does not depend on the image, from that of its part."""
        shape = [length for at, length in enumerate(call.output.shape) if at != part.batch_at]
        order = part.network_order()
        ordered = tuple(shape[order.index(dim)] for dim in range(1, len(shape) + 1))
        return replace(part.without(range(1, len(shape) + 1), keep=True), shape=ordered)

    def _fault(self, call: Call, part: TensorLayout | None) -> str:
        if self.ranges is None:
            return "it writes to positions that are not a range of each dimension"
        if len(self.ranges[self.batch]) != call["self"].shape[self.batch]:
            return "it writes to some of the images of a batch"
        if self.folded or (part is not None and (part.folded or part.batch_at != self.batch)):
            return "it writes to a part of images cut into pieces"
        return ""

    def unsupported(self) -> str:
        return self.fault

    def output_layout(self, call: Call) -> TensorLayout:
        return self.layout

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        tensor, part = self.derived
        return [
            self._rest(signal, window, input_windows[0]) if tensor else None,
            self._part(signal, window, input_windows[1]) if part else None,
        ]

    @property
    def _axes(self) -> tuple[int, ...]:
        """The dimensions along which signals are windows."""
        return self.layout.dims if self.supports_windows else ()

    def _part(self, signal: Tensor, window: Window, below: Window) -> Tensor:
        """Return the signal at the replaced positions."""
        part = signal[self._plain(signal)]
        for axis, dim in enumerate(self._axes):
            replaced = self.parts[dim]
            index = replaced.start + replaced.step * _positions(below, axis)
            part = _taken(part, dim, index - window.start[:, axis, None])
        return part

    def _rest(self, signal: Tensor, window: Window, below: Window) -> Tensor:
        """Return the signal with zeros at the replaced positions."""
        rest, plain = signal.clone(), self._plain(signal)
        inside = torch.ones([1] * signal.dim(), dtype=torch.bool)
        for axis, dim in enumerate(self._axes):
            replaced, here = self.parts[dim], _positions(window, axis)
            covered = (here >= replaced.start) & (here <= replaced[-1])
            covered &= (here - replaced.start) % replaced.step == 0
            inside = inside & _along(covered, dim, signal.dim())
        rest[plain] = rest[plain].masked_fill(inside.to(signal.device), 0)
        for axis, dim in enumerate(self._axes):
            if self._excludes(axis):  # the window of the tensor may be smaller than that of the result
                rest = _taken(rest, dim, _positions(below, axis) - window.start[:, axis, None])
        return rest

    def _plain(self, signal: Tensor) -> tuple[slice, ...]:
        """Return the replaced positions of each dimension; all of them along the axes of a window."""
        found = [slice(None)] * signal.dim()
        for dim, some in self.parts.items():
            if dim not in self._axes:
                found[dim] = slice(some.start, some.stop, some.step)
        return tuple(found)

    def _excludes(self, axis: int) -> bool:
        """Return whether the positions of the part along an axis contain nothing of the tensor."""
        own = self.layout.dims[axis]
        full = [len(some) == self.layout.shape[dim - 1] for dim, some in self.parts.items() if dim != own]
        return all(full) and len(self.parts[own]) < self.layout.shape[own - 1]

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.supports_windows and argument == 0 and not self._excludes(axis)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.supports_windows or self.is_elementwise(argument, axis):
            return super().visible_inputs(argument, axis, n_out, n_in)
        some = self.parts[self.layout.dims[axis]]
        if argument == 0:
            seen = torch.eye(n_out, dtype=torch.bool)
            seen[some.start : some.stop : some.step] = False
            return seen
        seen = torch.zeros(n_out, n_in, dtype=torch.bool)
        seen[some.start : some.stop : some.step] = torch.eye(n_in, dtype=torch.bool)
        return seen

    def index_map(self, argument: int, axis: int) -> IndexMap:
        if not self.supports_windows:
            return UNKNOWN
        some = self.parts[self.layout.dims[axis]]
        if argument == 0 or some.step > 1:
            return SAME if argument == 0 else UNKNOWN
        return PeriodicIntervals(((-some.start, 1 - some.start),), 1)


def ranges(call: Call) -> tuple[range, ...] | None:
    """Return the positions that a call replaces, as a range of each dimension; None if they are not one."""
    whole: Tensor = call["self"]
    if call.op is aten.slice_scatter.default:
        dim = call["dim"] % whole.dim()
        some = slice(call["start"], call["end"], call["step"]).indices(whole.shape[dim])
        return tuple(range(*some) if at == dim else range(n) for at, n in enumerate(whole.shape))
    first, dtype, _, _ = geometry(whole)
    offset = first if call["storage_offset"] is None else call["storage_offset"]
    found = section(geometry(whole), (offset, dtype, tuple(call["size"]), tuple(call["stride"])))
    if found is None or [*found.dims] != [*range(whole.dim())]:
        return None
    return found.ranges


def _positions(window: Window, axis: int) -> Tensor:
    """Return the rows (axis 0) or columns (axis 1) of a value that each window contains: (K, n)."""
    return window.start[:, axis, None] + torch.arange(window.size[axis])


def _along(numbers: Tensor, dim: int, rank: int) -> Tensor:
    """Return numbers (K, n) as a tensor of a rank, with n along a dimension, and 1 along the others."""
    return numbers.reshape(len(numbers), *[-1 if other == dim else 1 for other in range(1, rank)])


def _taken(signal: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return positions (K, m) of one dimension of signals (K, ...); zero where there is none."""
    length = signal.shape[dim]
    if index.shape[1] == length and bool((index == torch.arange(length)).all()):
        return signal
    valid = _along((index >= 0) & (index < length), dim, signal.dim()).to(signal)
    at = _along(index.clamp(0, length - 1), dim, signal.dim()).to(signal.device)
    return torch.take_along_dim(signal, at, dim) * valid
