"""Concatenation and repetition: the signal is split between the parts, or summed over the copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule

aten = torch.ops.aten


def _unlike(call: Call) -> list[bool]:
    """Return for each argument whether its rows and columns are on other axes than those of the first."""
    return [layout is not None and layout.place != call.layout.place for layout in call.layouts]


def _mixed(call: Call) -> frozenset[int]:
    """Return the dimensions, of any argument, whose positions are mixed and not tracked."""
    return frozenset().union(*(layout.mixed for layout in call.layouts if layout is not None))


@rule(aten.cat.default)
class Concat(Rule):
    """Maps concatenated along a dimension; projection: each receives its part of the signal."""

    supports_windows = True
    handles_folded_batch = True
    repeats = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        return Gathering(call) if Gathering.applies(call) else cls(call)

    def __init__(self, call: Call) -> None:
        tensors: list[Tensor] = call["tensors"]
        self.skipped = [t.shape == (0,) for t in tensors]  # PyTorch skips empty 1-D tensors
        self.real = call["dim"] % call.output.dim()
        self.lengths = [
            0 if skip else t.shape[self.real] for t, skip in zip(tensors, self.skipped, strict=True)
        ]
        self.layouts = call.layouts
        self.unlike = _unlike(call)
        self.dim = call.layout.dim(call["dim"])
        axes = call.layout.axes
        self.axis = axes.index(self.dim) if axes and self.dim in axes else None  # 0 for rows, 1 for columns
        self.joined = self.dim == call.layout.joint

    def unsupported(self) -> str:
        return "it concatenates along the batch" if self.real == 0 else ""

    def output_layout(self, call: Call) -> TensorLayout:
        if self.real == 0:
            return super().output_layout(call)
        shape = list(call.layout.shape)
        shape[self.dim - 1] = sum(self.lengths)
        kept = call.layout.without([self.dim], keep=True)
        return replace(kept, shape=tuple(shape), batch_at=0, mixed=kept.mixed | _mixed(call))

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        parts: list[Tensor | None] = []
        whole = Window.all_of(window.layout, window.image_indices)
        for argument, length in enumerate(self.lengths):
            before = sum(self.lengths[:argument])
            if self.skipped[argument] or self.layouts[argument] is None:
                parts.append(None)
            elif self.unlike[argument]:  # its window is the whole value
                every = whole.place(signal, window.start) if window.layout.axes else signal
                parts.append(every.narrow(self.dim, before, length))
            elif self.axis is None:
                parts.append(signal.narrow(self.dim, before, length))
            else:
                start = window.start.clone()
                start[:, self.axis] -= before
                parts.append(window.towards(input_windows[argument], self.axis).place(signal, start))
        return parts

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.axis != axis and not self.unlike[argument] and not self.joined

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.axis != axis or self.unlike[argument] or self.joined:
            return super().visible_inputs(argument, axis, n_out, n_in)
        before = sum(self.lengths[:argument])
        return torch.eye(n_out, dtype=torch.bool)[:, before : before + n_in]


class Gathering(Rule):
    """Maps of one image, concatenated along the batch: each is a piece of the image from here on."""

    handles_folded_batch = True

    @staticmethod
    def applies(call: Call) -> bool:
        along_batch = call["dim"] % call.output.dim() == 0
        return along_batch and call.batch == 1 and all(t.dim() == call.output.dim() for t in call["tensors"])

    def __init__(self, call: Call) -> None:
        self.layouts = call.layouts
        self.lengths = [len(t) for t in call["tensors"]]

    def output_layout(self, call: Call) -> TensorLayout:
        return call.layout.unplaced(call.output.shape, folded=1)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        parts = zip(signal.split(self.lengths, 1), self.layouts, strict=True)
        return [None if own is None else part.reshape(len(signal), *own.shape) for part, own in parts]


@rule(aten.stack.default)
class Stack(Rule):
    """Maps stacked along a new dimension; projection: each receives its part of the signal."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.real: int = call["dim"] % call.output.dim()
        before_batch = self.real <= self.below.batch_at
        self.dim = self.below.folded + self.real + before_batch
        self.batch_at = self.below.batch_at + before_batch
        self.count = len(call["tensors"])
        self.unlike = _unlike(call)

    def output_layout(self, call: Call) -> TensorLayout:
        shape = list(self.below.shape)
        shape.insert(self.dim - 1, self.count)
        moved = replace(self.below, mixed=_mixed(call)).moved(lambda dim: dim + (dim >= self.dim))
        return replace(moved, shape=tuple(shape), batch_at=self.batch_at)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.select(self.dim, number) for number in range(self.count)]

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return not self.unlike[argument]


@rule(aten.expand.default)
class Expand(Rule):
    """Broadcast to a larger shape; projection: the signals of the copies are summed."""

    supports_windows = True
    handles_folded_batch = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.output = tuple(call.output.shape)
        real = self.below.network_shape(call.batch)
        self.mixes = len(real) != len(self.output) or real[0] != self.output[0]
        shape = (*self.below.shape[: self.below.folded], *self.output[1:])
        self.above = (
            self.below.like(self.output[1:]) if self.mixes else replace(self.below, shape=shape, batch_at=0)
        )

    def unsupported(self) -> str:
        return f"it broadcasts across the images of a batch: to {self.output}" if self.mixes else ""

    def output_layout(self, call: Call) -> TensorLayout:
        return self.above

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        shapes = zip(self.below.shape, self.above.shape, strict=True)
        dims = [dim for dim, (own, whole) in enumerate(shapes, 1) if own != whole]
        return [signal.sum(dims, keepdim=True) if dims else signal]

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.below.lengths[axis] == self.above.lengths[axis]


@rule(aten.unfold.default)
class Unfold(Rule):
    """Sliding windows along a dimension; projection: windows are put back in place and overlaps summed."""

    handles_folded_batch = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.dim = self.below.dim(call["dimension"])
        self.size, self.step = int(call["size"]), int(call["step"])

    def unsupported(self) -> str:
        return "it slides over the images of a batch" if self.dim == 0 else ""

    def output_layout(self, call: Call) -> TensorLayout:
        if self.dim == 0:
            return super().output_layout(call)
        shape = [*self.below.shape, self.size]
        shape[self.dim - 1] = (self.below.shape[self.dim - 1] - self.size) // self.step + 1
        return self.below.unplaced(shape, folded=self.below.folded)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal.new_zeros(len(signal), *self.below.shape)
        span = (signal.shape[self.dim] - 1) * self.step + 1
        for tap in range(self.size):
            along = (*[slice(None)] * self.dim, slice(tap, tap + span, self.step))
            x[along] += signal[..., tap]
        return [x]


@rule(aten.repeat.default)
class Repeat(Rule):
    """x repeated along dimensions; projection: the signals of the copies are summed."""

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.times = [int(n) for n in call["repeats"]]
        self.along = (
            [dim is not None and self.times[dim] > 1 for dim in self.below.axes or ()]
            if not self.unsupported()
            else []
        )
        self.supports_windows = not any(self.along)

    def unsupported(self) -> str:
        if self.times[0] != 1 or len(self.times) != len(self.below.shape) + 1:
            return "it repeats the images of a batch"
        return ""

    def output_layout(self, call: Call) -> TensorLayout:
        if self.unsupported():
            return super().output_layout(call)
        repeated = [dim for dim, times in enumerate(self.times) if times > 1]
        return replace(self.below.without(repeated, keep=True), shape=tuple(call.output.shape[1:]))

    def is_elementwise(self, argument: int, axis: int) -> bool:
        if self.below.joint is not None and self.times[self.below.joint] > 1:
            return False
        return not (self.along and self.along[axis])

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.along and self.along[axis]:
            return torch.eye(n_in, dtype=torch.bool).repeat(n_out // n_in, 1)
        return super().visible_inputs(argument, axis, n_out, n_in)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        for dim, (times, length) in enumerate(zip(self.times[1:], self.below.shape, strict=True), 1):
            if times > 1:
                signal = signal.unflatten(dim, (times, length)).sum(dim)
        return [signal]
