"""Parts of a map; the projection puts the signal of each part back in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule

aten = torch.ops.aten


class Part(Rule):
    """Positions first, first + step, ... along one dimension; projection: zero at all others."""

    supports_windows = True
    handles_folded_batch = True
    first: int
    step: int
    count: int

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.dim = self.below.dim(call["dim"])
        # the pieces of a single image are a dimension like others
        self.of_pieces = self.dim == 0 and call.batch == self.below.folded == 1 and not self.below.batch_at
        self.dim += self.of_pieces
        self.supports_windows = not self.of_pieces
        self.length = self.below.shape[self.dim - 1] if self.dim else self.below.network_shape(call.batch)[0]
        axes = self.below.axes
        self.axis = axes.index(self.dim) if axes and self.dim in axes else None
        self.joined = self.dim == self.below.joint

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return axis != self.axis and not self.joined and not self.of_pieces

    def unsupported(self) -> str:
        if self.dim == 0 and (self.first, self.step, self.count) != (0, 1, self.length):
            return "it selects some of the images of a batch"
        return ""

    def output_layout(self, call: Call) -> TensorLayout:
        if self.dim == 0:
            return super().output_layout(call)
        if self.of_pieces and self.count == 1:
            return self.below.like(self.below.shape[1:])
        shape = list(self.below.shape)
        shape[self.dim - 1] = self.count
        return replace(self.below.without([self.dim]), shape=tuple(shape), batch_at=0)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if self.dim == 0:
            return [signal]
        if self.of_pieces and self.count == 1:
            signal = signal.unsqueeze(1)
        if self.axis is None:
            shape = list(signal.shape)
            shape[self.dim] = self.length
            x = signal.new_zeros(shape)
            x[self._along(self.first, self.first + self._span)] = signal
            return [x]
        start = window.start.clone()
        start[:, self.axis] = start[:, self.axis] * self.step + self.first
        if self.step > 1:
            shape = list(signal.shape)
            shape[self.dim] = (shape[self.dim] - 1) * self.step + 1
            x = signal.new_zeros(shape)
            x[self._along(None, None)] = signal
            signal = x
        return [window.towards(input_windows[0], self.axis).place(signal, start)]

    def _along(self, first: int | None, past: int | None) -> tuple[slice, ...]:
        return (*[slice(None)] * self.dim, slice(first, past, self.step))

    @property
    def _span(self) -> int:
        return (self.count - 1) * self.step + 1

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if axis != self.axis:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return torch.eye(n_in, dtype=torch.bool)[self.first :: self.step][:n_out]

    def index_map(self, argument: int, axis: int) -> IndexMap:
        if axis != self.axis:
            return super().index_map(argument, axis)
        return PeriodicIntervals(((self.first, self.first + 1),), self.step)


@rule(aten.slice.Tensor)
class Slice(Part):
    """x[:, first:last:step]."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.first, last, self.step = slice(call["start"], call["end"], call["step"]).indices(self.length)
        self.count = len(range(self.first, last, self.step))


@rule(
    aten.split.Tensor, aten.split_with_sizes.default,
    aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default,
)  # fmt: skip
class Split(Part):
    """x split along a dimension; each part has its own rule."""

    per_output = True
    step = 1

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        lengths = [part.shape[call["dim"]] for part in call.outputs]
        self.first = sum(lengths[: call.number])
        self.count = lengths[call.number]


class Pick(Part):
    """One position along a dimension, which is removed. It may be the batch if there is only one image."""

    any_batch_axis = True
    step, count = 1, 1

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.supports_windows = self.axis is None and not self.of_pieces
        self.alone = call.batch == 1 and not self.below.folded and len(self.below.shape) > 0

    def is_elementwise(self, argument: int, axis: int) -> bool:
        kept = self.axis is None or (self.below.may_lose_axes and axis != self.axis)
        return kept and not self.joined and not self.of_pieces

    def unsupported(self) -> str:
        return "it selects one of the images of a batch" if self.dim == 0 and not self.alone else ""

    def output_layout(self, call: Call) -> TensorLayout:
        below = self.below
        if self.dim == 0:  # without a batch: the first dimension takes its place
            below = below.in_network_order() if self.alone else below.like(call.output.shape[1:])
            return replace(below, folded=1) if self.alone else below
        shape = (*below.shape[: self.dim - 1], *below.shape[self.dim :])
        batch_at = below.batch_at - (not self.of_pieces and self.dim - below.folded <= below.batch_at)
        moved = below.moved(lambda dim: None if dim == self.dim else dim - (dim > self.dim))
        # one position alone does not depend on all positions of the other dimensions
        lost = self.joined or (self.axis is not None and moved.axes is None)
        mixed = frozenset[int]() if lost else moved.mixed
        return replace(moved, shape=shape, batch_at=batch_at, mixed=mixed)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if self.dim == 0:
            order = self.below.network_order()
            return [signal.permute(0, *(1 + order.index(dim) for dim in range(1, signal.dim())))]
        shape = list(signal.shape)
        shape.insert(self.dim, self.length)
        x = signal.new_zeros(shape)
        x.select(self.dim, self.first).copy_(signal)
        return [x]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if axis != self.axis:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return torch.eye(n_in, dtype=torch.bool)[self.first].expand(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return SAME if self.is_elementwise(argument, axis) else UNKNOWN


@rule(aten.select.int)
class Select(Pick):
    """x[:, index]."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.first = call["index"] % self.length


@rule(aten.unbind.int)
class Unbind(Pick):
    """x split into single positions along a dimension; each has its own rule."""

    per_output = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.first = call.number
